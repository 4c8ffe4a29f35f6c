"""Two models averaged: figure 1 of McMahan et al. (2016) at theta = 1/2.

Command: python run.py --config=configs/mnist_two_models.py
Time: about twenty seconds on 2 CPU cores.
Result: 89.14% test accuracy with seed 0.

Both start from the same weights. `python -m benchmarks.paper.figure1` draws
the whole figure, also with weights of their own.
"""

from configs import default


def get_config():
  """Two clients of 600 IID examples; E = 20, B = 50: 240 steps; one round."""
  config = default.get_config()
  config.clients_per_round = 2
  config.local_epochs = 20
  config.batch_size = 50
  config.rounds = 1
  config.targets = ()
  return config

"""One-shot averaging: every client trains alone, the models are averaged once.

Command: python run.py --config=configs/mnist_one_shot.py
Time: about a minute on 2 CPU cores.
Result: 90.96% with seed 0.
"""

from configs import default


def get_config():
  """All 100 IID clients, 50 local epochs, one round."""
  config = default.get_config()
  config.client_fraction = 1.0
  config.local_epochs = 50
  config.rounds = 1
  config.targets = (0.9, 0.97)
  return config

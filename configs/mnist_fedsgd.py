"""FedSGD, 2NN on IID MNIST: one gradient of the whole local data a round.

Command: python run.py --config=configs/mnist_fedsgd.py
"""

from configs import default


def get_config():
  """E = 1, B = infinity, C = 0.1; the paper needed 1,474 rounds to 97%."""
  config = default.get_config()
  config.algorithm = 'fedsgd'
  config.full_batch = True
  config.client_lr = 0.5
  config.rounds = 1500
  config.eval_every = 5
  return config

"""FedAvg, 2NN on IID MNIST: C = 0.1, E = 1, B = 10.

Command: python run.py --config=configs/mnist_iid.py
"""

from configs import default


def get_config():
  """The default, with 100 rounds and the paper's target of 97%."""
  config = default.get_config()
  config.rounds = 100
  config.client_lr = 0.1
  return config

"""FedAvg, CNN on IID MNIST: C = 0.1, E = 5, B = 10, target 99%.

Command: python run.py --config=configs/mnist_cnn_iid.py
"""

from configs import default


def get_config():
  """McMahan et al. (2016), tables 1 and 2: 18 and 20 rounds to 99%."""
  config = default.get_config()
  config.model = 'mnist_cnn'
  config.local_epochs = 5
  config.client_lr = 0.2
  config.rounds = 20
  config.targets = (0.99,)
  return config

"""FedAvg, 2NN on IID MNIST: C = 0.1, E = 1, B = 10 (McMahan et al., table 1).

Command: python run.py --config=configs/mnist_iid.py
"""

from configs import default


def get_config():
  config = default.get_config()
  return config

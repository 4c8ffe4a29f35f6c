"""A course report's experiment: an MLP with dropout on IID MNIST, 20 rounds.

Command: python run.py --config=configs/mnist_course_report.py
"""

from configs import default


def get_config():
  """K = 100, C = 0.1, E = 10, B = 10, rate 0.01, momentum 0.5."""
  config = default.get_config()
  config.model = 'course_mlp'
  config.local_epochs = 10
  config.client_lr = 0.01
  config.client_momentum = 0.5
  config.rounds = 20
  config.targets = (0.9,)
  return config

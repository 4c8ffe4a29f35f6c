"""FedAvg, 2NN on Fashion-MNIST with label skew: Dirichlet of 0.3.

Command: python run.py --config=configs/fashion_dirichlet.py
Time: about half a minute on 2 CPU cores.
Result: 85% after 94.4, 75.3 and 84.4 rounds with seeds 0, 1, 2, and a best of
86.57%, 87.10% and 87.08% in 200.
"""

from configs import default


def get_config():
  """100 clients of unequal size and labels; C = 0.1, E = 1, B = 10."""
  config = default.get_config()
  config.dataset = 'fashion_mnist'
  config.partition = 'dirichlet(0.3, min_size=10)'
  config.client_test_fraction = 0.2
  config.rounds = 200
  config.targets = (0.8, 0.85)
  return config

"""Centralized SGD, 2NN on MNIST: the baseline without federation.

Command: python run.py --config=configs/mnist_centralized.py
Time: about half a minute on 2 CPU cores.
Result: 97% after 15.2 rounds (of 600 steps; an epoch has 6,000) with seed 0,
and a best of 98.23% in 100.
"""

from configs import default


def get_config():
  """One client holds everything; a round is 600 steps of batch 10."""
  config = default.get_config()
  config.algorithm = 'centralized_sgd(steps_per_round=600)'
  config.num_clients = 1
  config.client_fraction = 1.0
  config.rounds = 100
  return config

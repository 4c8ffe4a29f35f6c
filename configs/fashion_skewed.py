"""FedAvg on the task that docs/algorithms.md compares algorithms on.

Command: python run.py --config=configs/fashion_skewed.py
2NN on Fashion-MNIST, 100 clients whose labels follow a Dirichlet law of 0.1,
ten of them a round. The configs beside it that import it have the same task and
another algorithm, at the setting that was best of eight there;
fashion_stragglers.py has other work a round, and is not in that table.
"""

from configs import default


def get_config():
  """C = 0.1, E = 2, B = 50; a fifth of each client's data is held out."""
  config = default.get_config()
  config.dataset = 'fashion_mnist'
  config.partition = 'dirichlet(0.1, min_size=20)'
  config.client_test_fraction = 0.2
  config.local_epochs = 2
  config.batch_size = 50
  config.client_lr = 0.1
  config.rounds = 100
  config.targets = (0.75, 0.8)
  return config

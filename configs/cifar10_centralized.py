"""Centralized SGD, CNN on CIFAR-10: the baseline of minibatches of 100.

Command: python run.py --config=configs/cifar10_centralized.py
  --config.data_dir=FOLDER where the binary files can't be downloaded.
The paper (table 3): 80%, 82%, 85% after 18,000, 31,000 and 99,000 updates,
which are 36, 62 and 198 rounds of 500 (an epoch). Its rate and its decay were
tuned and are not stated; these were not tuned.
"""

from configs import default


def get_config():
  """One client holds everything; a round is 500 steps of batch 100."""
  config = default.get_config()
  config.dataset = 'cifar10'
  config.model = 'cifar_cnn'
  config.algorithm = 'centralized_sgd(steps_per_round=500)'
  config.num_clients = 1
  config.client_fraction = 1.0
  config.batch_size = 100
  config.client_lr = 0.1
  config.client_lr_decay = 0.98
  config.rounds = 200
  config.targets = (0.80, 0.82, 0.85)
  return config

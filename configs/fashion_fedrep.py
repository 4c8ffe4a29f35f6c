"""A split model: FedRep (Collins et al. 2021) on skewed Fashion-MNIST.

Command: python run.py --config=configs/fashion_fedrep.py
  --config.algorithm='fedper(personal="dense_2")' for FedPer.
The last layer stays with each client, so the clients' own test accuracy is what
counts; the common model's head is untrained. The task is that of
fashion_skewed.py; results are in docs/algorithms.md.
"""

from configs import fashion_skewed


def get_config():
  """Five epochs of the head, then two of the body."""
  config = fashion_skewed.get_config()
  config.algorithm = 'fedrep(personal="dense_2", head_epochs=5)'
  config.client_lr = 0.1
  return config

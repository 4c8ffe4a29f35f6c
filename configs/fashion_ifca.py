"""Clusters: IFCA (Ghosh et al. 2020) on skewed Fashion-MNIST.

Command: python run.py --config=configs/fashion_ifca.py
Each client trains and uses the one of three models that fits its data best, so
the clients' own test accuracy is what counts; the common test set is given to
the most chosen model. The task is that of fashion_skewed.py; results are in
docs/algorithms.md.
"""

from configs import fashion_skewed


def get_config():
  """Three models."""
  config = fashion_skewed.get_config()
  config.algorithm = 'ifca(clusters=3)'
  config.client_lr = 0.1468
  return config

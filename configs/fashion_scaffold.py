"""Heterogeneity: SCAFFOLD (Karimireddy et al. 2020) on skewed Fashion-MNIST.

Command: python run.py --config=configs/fashion_scaffold.py
  --config.algorithm=fednova (or fedexp) for others that need no arguments.
The task is that of fashion_skewed.py; results are in docs/algorithms.md.
"""

from configs import fashion_skewed


def get_config():
  """Control variates of option 2: the gradients that were taken on the way."""
  config = fashion_skewed.get_config()
  config.algorithm = 'scaffold(option=2)'
  config.weighting = 'uniform'  # As in the paper.
  config.client_lr = 0.04642
  return config

"""Fairness: q-FedAvg (Li et al. 2020) on skewed Fashion-MNIST.

Command: python run.py --config=configs/fashion_q_fedavg.py
  --config.algorithm='q_fedavg(q=0)' for FedAvg.
Compare `p10` and `worst` of the clients' own test accuracy. The task is that of
fashion_skewed.py; results are in docs/algorithms.md.
"""

from configs import fashion_skewed


def get_config():
  """Clients weigh by their loss to the power q."""
  config = fashion_skewed.get_config()
  config.algorithm = 'q_fedavg(q=0.1)'
  config.client_lr = 0.1468
  return config

"""Clients, edges and a cloud: HierFAVG (Liu et al. 2020) on non-IID MNIST.

Command: python run.py --config=configs/mnist_hierarchical.py
As mnist_noniid.py, with 30 clients a round. Each of 10 edges averages its own
clients in every round, and the cloud averages the edges in every fifth. Bytes
between edges and the cloud are counted apart. How often it should:

  python run.py --config=configs/mnist_hierarchical.py \\
      --sweep='algorithm=fedavg,hierfavg(edges=10, kappa2=5)'
"""

from configs import mnist_noniid


def get_config():
  """Ten edges of ten clients."""
  config = mnist_noniid.get_config()
  config.algorithm = 'hierfavg(edges=10, kappa2=5)'
  config.client_fraction = 0.3
  config.rounds = 100
  return config

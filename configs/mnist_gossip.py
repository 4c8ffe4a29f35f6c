"""Without a server: D-PSGD (Lian et al. 2017) in a graph, on non-IID MNIST.

Command: python run.py --config=configs/mnist_gossip.py
As mnist_noniid.py, with all 100 clients in each round. Each trains its own
model, and averages it with those of four neighbours. Graphs side by side:

  python run.py --config=configs/mnist_gossip.py \\
      --sweep='algorithm=dpsgd(graph=ring),dpsgd(graph=torus),dpsgd(graph=complete)'
"""

from configs import mnist_noniid


def get_config():
  """A random graph of degree 4."""
  config = mnist_noniid.get_config()
  config.algorithm = 'dpsgd(graph=random_regular(4, seed=0))'
  config.client_fraction = 1.0
  config.rounds = 100
  return config

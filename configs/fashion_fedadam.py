"""Server optimizers: FedAdam (Reddi et al. 2021) on skewed Fashion-MNIST.

Command: python run.py --config=configs/fashion_fedadam.py
  --config.server_optimizer=fedyogi or fedadagrad for the others, and
  --config.server_optimizer='fedavgm(momentum=0.9)' --config.server_lr=0.3.
The task is that of fashion_skewed.py; results are in docs/algorithms.md.
"""

from configs import fashion_skewed


def get_config():
  """FedAvg's clients; a server with moments, and tau = 1e-3."""
  config = fashion_skewed.get_config()
  config.server_optimizer = 'fedadam(tau=1e-3)'
  config.server_lr = 0.01
  config.client_lr = 0.06813
  return config

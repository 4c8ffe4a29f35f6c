"""FedProx (Li et al. 2020): most clients finish a part of their work only.

Command: python run.py --config=configs/fashion_stragglers.py
  --config.algorithm='fedavg(stragglers=0.9)' for FedAvg with the same ones.
As in the paper's figure 1, E = 20 and of a round's clients 90% do a random part
of it; what they did is averaged. The data are those of fashion_skewed.py.
"""

from configs import fashion_skewed


def get_config():
  """B = 10 like the paper, which has mu from 0.001 to 1."""
  config = fashion_skewed.get_config()
  config.algorithm = 'fedprox(mu=0.1, stragglers=0.9)'
  config.local_epochs = 20
  config.batch_size = 10
  config.client_lr = 0.01
  config.rounds = 50
  return config

"""FedAvg, character LSTM on Shakespeare, all lines dealt out evenly.

Command: python run.py --config=configs/shakespeare_iid.py
  The text is that of shakespeare_roles.py.
Published: the paper's table 2 says 460 rounds to 54% of characters. The rate
is that of shakespeare_roles.py.
"""

from configs import shakespeare_roles


def get_config():
  """As many clients as roles on the paper's text; C = 0.1, E = 1, B = 10."""
  config = shakespeare_roles.get_config()
  config.partition = 'iid'
  config.num_clients = 1146
  config.rounds = 500
  return config

"""FedBuff: 100 of 1,000 clients at work at any time, a step with 10 reports.

Command: python run.py --config=configs/mnist_fedbuff.py
Two label shards a client, as in mnist_noniid.py, on devices of which the slow
ones take a hundred times as long as the fast ones. The same clients in rounds,
which wait for the slowest of ten:

  python run.py --config=configs/mnist_fedbuff.py --config.algorithm=fedavg \\
      --config.reporting=''
"""

from configs import default


def get_config():
  """1,000 clients of 60 examples, E = 1, B = 10, in simulated hours."""
  config = default.get_config()
  config.num_clients = 1000
  config.partition = 'shards(2)'
  config.algorithm = 'fedbuff'
  config.weighting = 'uniform'
  config.clients_per_round = 10
  config.client_lr = 0.1
  config.systems = 'lognormal(speed_ratio=100.0)'
  config.reporting = 'asynchronous(concurrency=100, max_lag=50)'
  config.rounds = 1000
  config.eval_every = 10
  return config

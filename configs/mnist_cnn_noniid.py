"""FedAvg, CNN on pathological non-IID MNIST: C = 0.1, E = 5, B = 10.

Command: python run.py --config=configs/mnist_cnn_noniid.py
Time: about an hour and a half on 2 CPU cores, estimated from the IID rounds.
Result: not measured yet.
"""

from configs import mnist_cnn_iid


def get_config():
  """Two shards a client; the paper needed 206 and 229 rounds to 99%."""
  config = mnist_cnn_iid.get_config()
  config.partition = 'shards(2)'
  config.client_lr = 0.05
  config.rounds = 250
  return config

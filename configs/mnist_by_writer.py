"""FedAvg, 2NN on MNIST by writer: 539 clients, 53 a round, E = 1, B = 10.

Command: python run.py --config=configs/mnist_by_writer.py
  --config.data_dir=FOLDER where QMNIST's label files can't be downloaded.
Each client is one writer, with 19 to 131 digits; the test digits are of 297
other writers.
"""

from configs import default


def get_config():
  """The clients are those that the data has: num_clients = 0."""
  config = default.get_config()
  config.dataset = 'mnist_by_writer'
  config.partition = 'natural'
  config.num_clients = 0
  config.client_lr = 0.1
  config.rounds = 200
  return config

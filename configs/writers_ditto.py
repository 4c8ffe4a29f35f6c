"""Personal models: Ditto (Li et al. 2021) on MNIST by writer.

Command: python run.py --config=configs/writers_ditto.py
  --config.data_dir=FOLDER where QMNIST's label files can't be downloaded;
  --config.algorithm=apfl, pfedme or per_fedavg, or --config.algorithm=fedavg
  --config.finetune_epochs=5, for others.
A client is a writer, of whose digits a fifth is held out; its own model is held
near the common one.
"""

from configs import mnist_by_writer


def get_config():
  """53 of 539 writers a round, E = 1, B = 10, lambda = 0.1."""
  config = mnist_by_writer.get_config()
  config.client_test_fraction = 0.2
  config.algorithm = 'ditto'
  config.regularization = 0.1
  config.rounds = 100
  return config

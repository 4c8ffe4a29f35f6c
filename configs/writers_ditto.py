"""Personal models: Ditto (Li et al. 2021) on MNIST by writer.

Command: python run.py --config=configs/writers_ditto.py
  --config.data_dir=FOLDER where QMNIST's label files can't be downloaded;
  for others --config.algorithm=apfl, 'pfedme(lam=15, personal_lr=0.05)',
  'per_fedavg(personal_lr=0.05)' or 'finetune(fedavg, local_training(sgd(0.05),
  epochs=5))'.
A client is a writer, of whose digits a fifth is held out; its own model is held
near the common one.
"""

from configs import mnist_by_writer


def get_config():
  """53 of 539 writers a round, E = 1, B = 10, lambda = 0.1."""
  config = mnist_by_writer.get_config()
  config.client_test_fraction = 0.2
  config.algorithm = 'ditto(lam=0.1)'
  config.rounds = 100
  return config

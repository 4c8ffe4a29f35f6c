"""Fine-tuning: clients are evaluated after local training of their own.

    client k uses w_k = local SGD from w_T on its own data,
    w_T the global model after the last round

The baseline of all personalisation; of FedAvg's model it is studied in Wang,
Mathews, Kiddon, Eichner, Beaufays, Ramage, "Federated Evaluation of On-device
Personalization" (2019), and Yu, Bagdasaryan, Shmatikov, "Salvaging Federated
Learning by Local Adaptation" (2020). The rounds stay those of the algorithm.
"""

from fedjax_sim.clients.local_training import LocalTraining
from fedjax_sim.core import random
from fedjax_sim.core.types import FederatedAlgorithm, Variables


def finetune(
    algorithm: FederatedAlgorithm, train: LocalTraining
) -> FederatedAlgorithm:
  """Adds local training to what `algorithm` evaluates a client with.

  Args:
    algorithm: any; for `fedavg` training starts from the global model, for one
      that personalizes itself, from what it gives the client.
    train: such as `local_training(model, optax.sgd(0.01), epochs=5)`.
  """

  def personalize(state, client_state, data, key) -> Variables:
    start = algorithm.personalize(state, client_state, data, key)
    return train.run(start, data, random.named(key, 'finetune'),
                     state.round).variables

  return algorithm._replace(personalize=personalize)

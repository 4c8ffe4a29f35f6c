"""FedPer: the last layers of the model stay with each client.

    with w the shared part and v_k client k's personal one, round t on each
    client:
      (w_k, v_k) <- local SGD from (w_t, v_k)
    server:
      w_{t+1} = w_t + sum_k n_k (w_k - w_t) / sum_k n_k

Arivazhagan, Aggarwal, Singh, Choudhary, "Federated Learning with
Personalization Layers" (2019), algorithms 1 and 2.
"""

from typing import Unpack

import optax

from fedjax_sim.algorithms.parts import (
    Parts,
    Select,
    by_path,
    from_parts,
    join,
)
from fedjax_sim.clients.local_sgd import Broadcast, difference
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
)
from fedjax_sim.core.types import (
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Model,
)


@takes_training(never_restricted='a part of the model stays with the client')
def fedper(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    personal: Select | Parts,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds FedPer.

  Args:
    model: what is trained.
    client_optimizer: as in `fedavg`, of both parts.
    server_optimizer: as in `fedavg`, of the shared part.
    personal: which arrays stay with the client: a regular expression that is
      found in their path, such as 'dense_2' (paths look like
      'params/dense_2/kernel'), or `(path) -> bool`. An algorithm of your own
      may hand on `Parts`, which see whole `Variables`.
    aggregator: as in `fedavg`; only the shared part is in the messages.
    **training: as in `local_training`.

  Returns:
    The algorithm. A client that has not taken part has the initial personal
    part. So has the global model, hence its test metrics tell little.

  Raises:
    ValueError: an argument is out of range; when run, that `personal` chooses
      none or all of the parameters.
  """
  parts = personal if isinstance(personal, Parts) else by_path(personal)
  train = local_training(model, client_optimizer, **training)

  def client(server: Broadcast, personal_part, data, key):
    local = train.run(join(personal_part, server.variables), data, key,
                      server.round)
    message = difference(
        parts.shared(local.variables), server.variables, train.weight(data))
    return ClientOutput(message, parts.personal(local.variables), local.metrics)

  return from_parts(
      parts, client, server_optimizer, aggregator, train.planned_steps)

"""FedBN: batch normalization stays with each client, all else is averaged.

    with v_k client k's scales, biases and running statistics of BatchNorm, and
    w all other parameters, round t on each client:
      (w_k, v_k) <- local SGD from (w_t, v_k)
    server:
      w_{t+1} = w_t + sum_k n_k (w_k - w_t) / sum_k n_k

For clients whose inputs, rather than labels, differ. Li, Jiang, Zhang, Kamp,
Dou, "FedBN: Federated Learning on Non-IID Features via Local Batch
Normalization" (2021), algorithm 1. It is FedPer with another choice of what is
personal.
"""

from typing import Unpack

import jax
import optax

from fedjax_sim.algorithms.fedper import fedper
from fedjax_sim.algorithms.parts import Parts
from fedjax_sim.clients.local_training import TrainingOptions, takes_training
from fedjax_sim.core import trees
from fedjax_sim.core.types import (
    Aggregator,
    FederatedAlgorithm,
    Model,
    Variables,
)


@takes_training(never_restricted='a part of the model stays with the client')
def fedbn(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds FedBN.

  Args:
    model: what is trained. All of its model state is taken for statistics, and
      the parameters of a layer that has statistics for those of BatchNorm.
    client_optimizer: as in `fedavg`.
    server_optimizer: as in `fedavg`, of what is averaged.
    aggregator: as in `fedavg`; only what is averaged is in the messages.
    **training: as in `local_training`.

  Returns:
    The algorithm. A client that has not taken part has the initial statistics,
    and so has the global model.

  Raises:
    ValueError: an argument is out of range; when run, that the model has no
      model state.
  """
  return fedper(model, client_optimizer, server_optimizer,
                personal=Parts(batch_norm), aggregator=aggregator, **training)


def batch_norm(variables: Variables) -> Variables:
  """Bools: True on the statistics and on their layers' parameters."""
  names = [trees.path_name(path).split('/')
           for path, _ in jax.tree.leaves_with_path(variables.model_state)]
  if not names:
    raise ValueError('FedBN needs a model with batch normalization, got one '
                     'whose model_state is empty.')
  # Linen's begin with the collection, 'batch_stats', which parameters lack.
  layers = {tuple(name[start:-1]) for name in names for start in (0, 1)} - {()}
  return Variables(
      jax.tree.map_with_path(
          lambda path, _: (
              tuple(trees.path_name(path).split('/')[:-1]) in layers),
          variables.params),
      jax.tree.map(lambda _: True, variables.model_state))

"""FedSGD: one step on the whole local data of every client of the cohort.

    w_{t+1} = w_t - eta * sum_k n_k grad F_k(w_t) / sum_k n_k

McMahan et al. (2016), section 2: FedAvg with E = 1 and B = infinity. All
clients take their gradient at the same weights. So where the update is linear
in the gradient, as with plain SGD, and nothing else is per client, the sum
above is one gradient over the cohort's pooled examples: no client ever holds
weights or gradients of its own, and clients of unequal size cost no padding.
"""

import jax
import optax

from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.algorithms.pooled import pooled_gradient
from fedjax_sim.clients import gradients, rows
from fedjax_sim.clients.local_sgd import WEIGHTINGS
from fedjax_sim.clients.local_training import Schedule
from fedjax_sim.core import (
    checks,
    optimizer_checks,
    optimizers,
    precision,
)
from fedjax_sim.core.types import (
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Message,
    Model,
    Pool,
    Variables,
)


def fedsgd(
    model: Model,
    client_optimizer: optax.GradientTransformation | float,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    weighting: str = 'examples',
    client_schedule: Schedule | None = None,
    aggregator: Aggregator | None = None,
    micro_batch_size: int = gradients.MICRO_BATCH_SIZE,
) -> FederatedAlgorithm:
  """Builds FedSGD.

  Args:
    model: what is trained.
    client_optimizer: a number is the rate eta of plain SGD, and lets the
      gradient be pooled. An optax optimizer makes every client's gradient its
      update.
    server_optimizer: takes minus the mean update; None is `optax.sgd(1.0)`.
    weighting: 'examples' weighs clients by n_k, 'uniform' all the same.
    client_schedule: round (from 0) -> factor on the update.
    aggregator: as in `fedavg`; only for the plain weighted mean is the
      gradient pooled.
    micro_batch_size: most examples whose gradient is taken at once.

  Returns:
    The algorithm: its rounds are those of `fedavg` with one local epoch and
    batch size None, at less cost.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.one_of('weighting', weighting, WEIGHTINGS)
  checks.positive_int('micro_batch_size', micro_batch_size)
  plain = not isinstance(client_optimizer, optax.GradientTransformation)
  if plain:
    rate = checks.positive('client_optimizer', client_optimizer)
    client_optimizer = optax.sgd(rate)
  optimizer_checks.check('client_optimizer', client_optimizer)
  optimizer_checks.check_factors('client_schedule', client_schedule)
  scale_of = client_schedule or (lambda round_number: 1.0)

  def client(server, client_state, data, key):
    params, model_state, _ = server.variables
    gradient, state, metrics = gradients.local_gradient(
        model, server.variables, data, key, micro_batch_size)
    updates, _ = optimizers.update(
        client_optimizer, gradient,
        optimizers.init(client_optimizer, params, key), params)
    update = Variables(
        precision.narrow(_scaled(updates, scale_of(server.round)), params),
        precision.difference(state, model_state))
    message = Message(update, WEIGHTINGS[weighting](data))
    return ClientOutput(message, client_state, metrics)

  def pooled(server, pool: Pool):
    if not rows.are_independent(model, server.variables, pool.examples):
      return None  # BatchNorm's statistics, for one, are a client's own.
    aggregate, metrics = pooled_gradient(
        model, server.variables, pool, WEIGHTINGS[weighting], micro_batch_size)
    update = _scaled(aggregate.mean, -rate * scale_of(server.round))
    mean = Variables(update, server.variables.model_state)
    return aggregate._replace(mean=mean), metrics

  algorithm = from_client_update(client, server_optimizer, aggregator)
  return algorithm._replace(pooled=pooled) if plain else algorithm


def _scaled(tree, factor):
  return jax.tree.map(lambda x: (factor * x).astype(x.dtype), tree)

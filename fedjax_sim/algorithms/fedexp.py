"""FedExP: the server steps further where the clients' updates disagree.

    round t, on each client k of the cohort S_t, from x_t: as in FedAvg,
      Delta_k = y_k - x_t
    server, with weights p_k that add up to one:
      Delta = sum_k p_k Delta_k
      eta_g = max(1, sum_k p_k |Delta_k|^2 / (2 (|Delta|^2 + epsilon)))
      x_{t+1} = x_t + eta_g Delta
    the model of round t + 1: (x_{t+1} + x_t) / 2

Jhunjhunwala, Wang, Joshi, "FedExP: Speeding Up Federated Averaging via
Extrapolation" (2023), algorithm 1, with p_k = 1 / M. Long steps make the
iterates swing around the minimum, so the model that they report is the average
of the last two; training itself goes on from x_{t+1}.
"""

from typing import Unpack

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.aggregation import needs
from fedjax_sim.aggregation.as_read import as_read
from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients.local_sgd import Broadcast
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
)
from fedjax_sim.core import averages, checks, precision, specs
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Message,
    Model,
    ServerState,
    Variables,
)


@specs.traceable('epsilon')
@takes_training
def fedexp(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    *,
    epsilon: float = 1e-3,
    average_last: bool = True,
    weighting: str = 'uniform',
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds FedExP.

  Args:
    model: what is trained.
    client_optimizer: as in `fedavg`.
    epsilon: of the denominator, > 0; the smaller, the longer the steps.
    average_last: whether `ServerState.variables`, which is what evaluation and
      results take, is the average of the last two iterates; `extra` always
      holds the last one.
    weighting: p_k.
    aggregator: as in `fedavg`, with the weighted mean and without `ef21`. Of
      an update that its transforms change |Delta_k|^2 is the smaller of what
      the client has found and what the server reads: what a clip takes away
      must not count, nor the noise of a random code, which the mean has less
      of.
    **training: as in `fedavg`.

  Raises:
    ValueError: an argument is out of range, or the aggregator does not fit.
  """
  checks.positive('epsilon', epsilon)
  checks.boolean('average_last', average_last)
  needs.check('fedexp', aggregator, needs.Need.WEIGHTS, needs.Need.SUM,
              needs.Need.COHORT)
  train = local_training(
      model, client_optimizer, weighting=weighting, **training)

  def client(server: Broadcast, client_state, data, key):
    local = train.run(server.variables, data, key, server.round)
    message = train.message(local, server.variables, data)
    return ClientOutput(
        averages.add(message, square=_square(message.update)), client_state,
        local.metrics)

  base = from_client_update(
      client, aggregator=as_read(aggregator, _shorter),
      local_steps=train.planned_steps,
      extra=lambda variables, num_clients: variables)

  def server(state: ServerState, aggregate: Aggregate, key):
    mean_square = averages.of(aggregate, 'square')
    square = optax.tree.norm(aggregate.mean.params, squared=True)
    rate = jnp.maximum(1.0, mean_square / (2 * (square + epsilon)))
    mean = aggregate.mean._replace(params=jax.tree.map(
        lambda d: (rate * d).astype(d.dtype), aggregate.mean.params))
    last = state.extra
    new = base.server(state._replace(variables=last),
                      aggregate._replace(mean=mean), key)
    shown = _halfway(new.variables, last) if average_last else new.variables
    return new._replace(variables=shown, extra=new.variables)

  return base._replace(
      broadcast=lambda state: Broadcast(state.round, state.extra),
      server=server)


def _square(update: Variables) -> jax.Array:
  return optax.tree.norm(precision.wide(update.params), squared=True)


def _shorter(message: Message, read: Variables) -> dict[str, jax.Array]:
  """The sums of a message, with the smaller one of the two squares."""
  return {'square': jnp.minimum(
      message.sums['square'], message.weight * _square(read))}


def _halfway(new: Variables, old: Variables) -> Variables:
  """The average of two models; model state is the new one's."""
  return new._replace(params=jax.tree.map(
      lambda a, b: (0.5 * (precision.wide(a) + precision.wide(b))).astype(
          a.dtype), new.params, old.params))

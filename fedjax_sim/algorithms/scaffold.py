"""SCAFFOLD: control variates take the clients' drift out of local steps.

    round t, on each client k of the cohort S_t, from x_t and c_t:
      y_k <- K steps of y - eta (grad F_k(y; batch) - c_k + c_t), from x_t
      c_k <- grad F_k(x_t) over all local data                     (option 1)
      c_k <- c_k - c_t + (x_t - y_k) / (K eta)                     (option 2)
    server:
      x_{t+1} = x_t + eta_g mean_k (y_k - x_t)
      c_{t+1} = c_t + |S_t| / N mean_k (new c_k - old c_k)

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD: Stochastic
Controlled Averaging for Federated Learning" (2020), algorithm 1. Its means are
plain ones; `weighting='examples'` weighs both, which makes it solve the
problem in which a client counts by its examples.
"""

from typing import NamedTuple, Unpack

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.algorithms import tracked
from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients.local_sgd import Broadcast, difference
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
)
from fedjax_sim.core import checks, precision, random, trees
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Model,
    PyTree,
    Variables,
)


class Changes(NamedTuple):
  """A client's update: of the model, y_k - x_t, and of its control variate."""

  model: Variables
  control: PyTree


@takes_training(never_restricted='a control variate is of the whole model')
def scaffold(
    model: Model,
    client_lr: float,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    option: int = 2,
    weighting: str = 'uniform',
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds SCAFFOLD.

  Args:
    model: what is trained.
    client_lr: eta, the rate of plain local SGD.
    server_optimizer: None is `optax.sgd(1.0)`; `optax.sgd(eta_g)` in general.
    option: of the control variate; 1 costs a pass over the local data. With 2
      it stays as it is where `client_schedule` has made the rate zero.
    weighting: of clients in both means.
    aggregator: as in `fedavg`; it must lose nothing for good, see `tracked`. An
      update is that of the model and that of the control variate together.
    **training: as in `fedavg`, without `proximal`.

  Returns:
    The algorithm. A client's state has the size of the model.

  Raises:
    ValueError: an argument is out of range, or the aggregator does not fit.
  """
  tracked.check('scaffold', aggregator, weighting)
  checks.rate('client_lr', client_lr)
  if isinstance(option, bool) or option not in (1, 2):
    raise ValueError(f'option must be 1 or 2, got {option!r}.')
  checks.not_given('proximal', training, 'control variates replace it')
  train = local_training(
      model, optax.sgd(client_lr), weighting=weighting, **training)

  def client(message, kept: tracked.Kept, data, key):
    server, control = message
    shift = jax.tree.map(jnp.subtract, control, kept.value)
    local = train.run(server.variables, data, key, server.round,
                      correct=lambda grads, params: trees.add(grads, shift))
    if option == 1:
      new, _, _ = train.gradient(
          server.variables, data, random.named(key, 'control'))
    else:
      steps = jnp.maximum(local.num_steps, 1)
      rate = steps * client_lr * train.step_scale(server.round)
      scale = precision.over_rate(1.0, rate)
      new = jax.tree.map(
          lambda x, y, s, old: jnp.where(
              scale > 0, (x - y) * scale - s, old).astype(x.dtype),
          precision.wide(server.variables.params),
          precision.wide(local.variables.params), shift, kept.value)
    weight = train.weight(data)
    change = jax.tree.map(jnp.subtract, new, kept.value)
    kept, sums = tracked.keep_new(kept, new, weight)
    message = difference(local.variables, server.variables, weight)
    message = message._replace(
        update=Changes(message.update, change), sums=sums)
    return ClientOutput(message, kept, local.metrics)

  base = from_client_update(
      client, server_optimizer, aggregator, train.planned_steps,
      extra=lambda variables, num_clients: tracked.track(
          variables.params, num_clients))

  def server(state, aggregate: Aggregate, key):
    model, control = aggregate.mean
    extra = tracked.update(state.extra, control, aggregate)
    return base.server(state, aggregate._replace(mean=model), key)._replace(
        extra=extra)

  return base._replace(
      client_init=lambda variables: tracked.keep(variables.params),
      broadcast=lambda state: (
          Broadcast(state.round, state.variables), tracked.mean(state.extra)),
      server=server, local_cost=train.cost(passes=2 - option))

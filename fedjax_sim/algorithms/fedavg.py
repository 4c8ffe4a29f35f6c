"""FedAvg: local epochs of SGD, then a weighted average of the models.

    round t, on each client k of the cohort S_t, from w_t:
      w_k <- E epochs of w - eta * grad loss(w; batch)
      delta_k = w_k - w_t
    server:
      g_t = -(sum_k n_k delta_k) / (sum_k n_k)        (pseudo-gradient)
      w_{t+1} = server_optimizer step on g_t

With `optax.sgd(1.0)` on the server this is McMahan, Moore, Ramage, Hampson,
Aguera y Arcas, "Communication-Efficient Learning of Deep Networks from
Decentralized Data" (2016), algorithm 1 FederatedAveraging; with another server
optimizer it is Reddi et al., "Adaptive Federated Optimization" (2021),
algorithm 1 FedOpt.
"""

from collections.abc import Callable
from typing import Unpack

import jax
import numpy as np
import optax
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.aggregation import kinds
from fedjax_sim.clients.local_sgd import Broadcast
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
)
from fedjax_sim.core import (
    contracts,
    optimizer_checks,
    optimizers,
    precision,
)
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    ClientOutput,
    ClientUpdate,
    FederatedAlgorithm,
    Model,
    PyTree,
    ServerState,
    Variables,
)


@takes_training
def fedavg(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds FedAvg; with `proximal=mu` it is FedProx.

  Args:
    model: what is trained.
    client_optimizer: for the local steps, anew in every round.
    server_optimizer: takes the pseudo-gradient; None is `optax.sgd(1.0)`,
      which replaces the model by the clients' average.
    aggregator: None is `aggregation.aggregator()`, the weighted mean.
    **training: epochs, steps, batch_size, stragglers, proximal, weighting,
      client_schedule, micro_batch_size, restrict, as `clients.local_training`
      describes them.

  Returns:
    The algorithm. Model state (BatchNorm's statistics) is averaged like the
    parameters.

  Raises:
    ValueError: an argument is out of range.
  """
  train = local_training(model, client_optimizer, **training)

  def client(server: Broadcast, client_state, data, key):
    local = train.run(server.variables, data, key, server.round)
    message = train.message(local, server.variables, data)
    return ClientOutput(message, client_state, local.metrics)

  return from_client_update(
      client, server_optimizer, aggregator, train.planned_steps)


def from_client_update(
    client: ClientUpdate,
    server_optimizer: optax.GradientTransformation | None = None,
    aggregator: Aggregator | None = None,
    local_steps: Callable[[np.ndarray], np.ndarray] = lambda sizes: sizes,
    *,
    extra: Callable[[Variables, int], PyTree] = lambda variables, n: (),
) -> FederatedAlgorithm:
  """FedAvg's server around any client that takes a `Broadcast`.

  Args:
    client: its message's update is a difference of `Variables`.
    server_optimizer: as in `fedavg`.
    aggregator: as in `fedavg`.
    local_steps: as in `FederatedAlgorithm`.
    extra: `(initial Variables, num_clients) -> ServerState.extra`.

  Raises:
    ValueError: an argument is not what it must be.
  """
  optimizer = optax.sgd(1.0) if server_optimizer is None else server_optimizer
  optimizer_checks.check('server_optimizer', optimizer)
  if aggregator is None:
    aggregator = aggregation.aggregator()
  kinds.check('aggregator', aggregator, Aggregator,
              'a whole aggregator, such as aggregator(clip(1.0))')

  def init(variables: Variables, key, num_clients) -> ServerState:
    return ServerState(
        jnp.int32(0), variables,
        optimizers.init(optimizer, variables.params, key),
        extra(variables, num_clients))

  def server(state: ServerState, aggregate: Aggregate, key) -> ServerState:
    del key
    variables, opt_state = apply_mean(
        optimizer, state.variables, aggregate.mean, state.opt_state)
    return state._replace(variables=variables, opt_state=opt_state)

  return FederatedAlgorithm(
      init=init,
      client_init=lambda variables: (),
      broadcast=lambda state: Broadcast(state.round, state.variables),
      client=client,
      aggregator=aggregator,
      server=server,
      personalize=lambda state, client_state, data, key: state.variables,
      local_steps=local_steps)


def apply_mean(
    optimizer: optax.GradientTransformation,
    variables: Variables,
    mean: Variables,
    opt_state,
) -> tuple[Variables, optax.OptState]:
  """The server's step: minus the mean update is the optimizer's gradient.

  Raises:
    ValueError: the mean is not like the variables; when traced.
  """
  contracts.same(
      "algorithm's client", "a message's update", mean._replace(frozen=None)
      if isinstance(mean, Variables) else mean,
      variables._replace(frozen=None), 'the variables', dtypes=False)
  gradient = jax.tree.map(jnp.negative, mean.params)
  updates, opt_state = optimizers.update(
      optimizer, gradient, opt_state, variables.params)
  return Variables(
      precision.add(variables.params, updates),
      precision.add(variables.model_state, mean.model_state),
      variables.frozen), opt_state

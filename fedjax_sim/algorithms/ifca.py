"""IFCA, or HypCluster: K models, each client trains the one that fits it best.

    round t, on each client k of the cohort, from w_1 .. w_K:
      j = argmin_j F_k(w_j), over all of its training data
      delta_k = (local SGD from w_j) - w_j
    server, for each cluster j, over the clients that chose it:
      w_j <- w_j + sum_k n_k delta_k / sum_k n_k

Ghosh, Chung, Yin, Ramchandran, "An Efficient Framework for Clustered Federated
Learning" (2020), algorithm 1 with model averaging (option II). Mansour, Mohri,
Ro, Suresh, "Three Approaches for Personalization with Applications to Federated
Learning" (2020), algorithm 1 HypCluster, is the same.
"""

from collections.abc import Callable
from typing import Unpack

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients.local_sgd import Broadcast
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
)
from fedjax_sim.clients.measure import local_loss
from fedjax_sim.core import checks, frozen, local_cost, precision, trees
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Model,
    ServerState,
    Variables,
)


def redrawn(variables: Variables, key: jax.Array) -> Variables:
  """Other initial parameters: normal, of each array's mean and deviation.

  An array of equal numbers, such as biases of zero, stays as it is.
  """
  leaves, treedef = jax.tree.flatten(variables.params)
  keys = jax.random.split(key, len(leaves))
  drawn = [(jnp.mean(wide) + jnp.std(wide) * jax.random.normal(
      k, x.shape, jnp.float32)).astype(x.dtype)
           for x, wide, k in zip(
               leaves, precision.wide(leaves), keys, strict=True)]
  return variables._replace(params=jax.tree.unflatten(treedef, drawn))


@takes_training
def ifca(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    clusters: int,
    initial: Callable[[Variables, jax.Array], Variables] = redrawn,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds IFCA.

  Args:
    model: what is trained.
    client_optimizer: as in `fedavg`.
    server_optimizer: as in `fedavg`, of each model on its own: one that nobody
      has chosen keeps its optimizer state too.
    clusters: K.
    initial: `(initial variables, key) -> Variables`, where a cluster's model
      begins; they must differ.
    aggregator: as in `fedavg`; an update is of one model, and messages are
      reduced for each model on its own.
    **training: as in `local_training`.

  Returns:
    The algorithm. `state.variables` are the models, each leaf [K, ...], and
    `state.extra`, float32 [K], the sum of the weights of those that chose each
    so far. The test set is given to the model with most of that; a client is
    evaluated with the one that fits its training data best.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.positive_int('clusters', clusters)
  train = local_training(model, client_optimizer, **training)

  def best(models: Variables, data) -> jax.Array:
    return jnp.argmin(jax.lax.map(
        lambda variables: local_loss(
            model, variables._replace(frozen=models.frozen), data),
        frozen.without(models)))

  def client(server: Broadcast, client_state, data, key):
    choice = best(server.variables, data)
    start = _at(server.variables, choice)
    local = train.run(start, data, key, server.round)
    message = train.message(local, start, data)
    message = message._replace(group=jnp.arange(clusters) == choice)
    return ClientOutput(message, client_state, local.metrics)

  base = from_client_update(
      client, server_optimizer, aggregator, train.planned_steps,
      extra=lambda variables, num_clients: jnp.zeros(()))

  def init(variables: Variables, key, num_clients) -> ServerState:
    keys = jax.random.split(key, clusters)
    models = jax.vmap(
        lambda key: frozen.without(initial(variables, key)))(keys)
    each = jax.vmap(lambda one, key: base.init(one, key, num_clients))(
        models, keys)
    return each._replace(round=jnp.int32(0), variables=models._replace(
        frozen=variables.frozen))

  def server(state: ServerState, aggregate: Aggregate, key) -> ServerState:
    def step(variables, opt_state, mean):
      after = base.server(
          state._replace(variables=variables, opt_state=opt_state),
          aggregate._replace(mean=mean), key)
      return after.variables, after.opt_state

    before = frozen.without(state.variables), state.opt_state
    after = trees.where(
        aggregate.weight > 0, jax.vmap(step)(*before, aggregate.mean), before)
    return state._replace(
        variables=after[0]._replace(frozen=state.variables.frozen),
        opt_state=after[1], extra=state.extra + aggregate.weight)

  return base._replace(
      init=init, server=server,
      local_cost=train.cost(passes=clusters * local_cost.FORWARD),
      personalize=lambda state, client_state, data, key: _at(
          state.variables, best(state.variables, data)),
      evaluated=lambda state: _at(state.variables, jnp.argmax(state.extra)))


def _at(models: Variables, index: jax.Array) -> Variables:
  one = jax.tree.map(lambda x: x[index], frozen.without(models))
  return one._replace(frozen=models.frozen)

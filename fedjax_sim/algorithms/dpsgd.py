"""D-PSGD: no server; clients average their models with neighbours in a graph.

    round t, on each client i, from its own model x_i:
      x_i <- E epochs of x - eta * grad loss(x; batch)
      x_i <- sum_j W_ij x_j,  over itself and its neighbours

W is symmetric, and its rows add up to one, so the mean of all models is that
of their gradient steps. Lian, Zhang, Zhang, Hsieh, Zhang, Liu, "Can
Decentralized Algorithms Outperform Centralized Algorithms?" (2017), algorithm
1, with one local step; its gradient is there taken before the average of the
same round, and the step made after it. Local steps and then an average, as
here: Koloskova, Loizou, Boreiri, Jaggi, Stich, "A Unified Theory of
Decentralized SGD with Changing Topology and Local Updates" (2020), algorithm 1.

What the server holds is the mean of all models, which nobody in such a
federation has; it is what is evaluated. With the complete graph all clients
have it, and this is FedAvg of all clients with equal weights.
"""

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients import gradients
from fedjax_sim.clients.local_sgd import Broadcast
from fedjax_sim.clients.local_training import Schedule, local_training
from fedjax_sim.core import frozen, mixing, precision, trees
from fedjax_sim.core.mixing import Graph
from fedjax_sim.core.topology import Gossip, Peer
from fedjax_sim.core.types import (
    Aggregate,
    ClientOutput,
    FederatedAlgorithm,
    Model,
    ServerState,
    Variables,
)


def dpsgd(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    *,
    graph: Graph,
    num_clients: int | None = None,
    epochs: float = 1,
    steps: int | None = None,
    batch_size: int | None = 10,
    stragglers: float = 0.0,
    client_schedule: Schedule | None = None,
    micro_batch_size: int = gradients.MICRO_BATCH_SIZE,
) -> FederatedAlgorithm:
  """Builds D-PSGD, for rounds in which all clients take part.

  Args:
    model: what is trained.
    client_optimizer: for the local steps, anew in every round.
    graph: the neighbours of each client, and the weights; such as
      `topologies.ring()`.
    num_clients: N, if it is known already: the graph is looked at now.
    epochs: as in `local_training`, like the following.
    steps: likewise.
    batch_size: likewise.
    stragglers: likewise.
    client_schedule: likewise.
    micro_batch_size: likewise.

  Returns:
    The algorithm. A client's state is a `topology.Peer`, with its model; it is
    evaluated with that. `state.variables` is the plain mean of the models of
    all clients that have examples. Clients without examples, and their links,
    are idle.

  Raises:
    ValueError: an argument is out of range, or there is no such graph.
  """
  if num_clients is not None:
    mixing.matrix(graph, num_clients)
  train = local_training(
      model, client_optimizer, epochs=epochs, steps=steps,
      batch_size=batch_size, stragglers=stragglers, weighting='uniform',
      client_schedule=client_schedule, micro_batch_size=micro_batch_size)

  def client(server: Broadcast, peer: Peer, data, key) -> ClientOutput:
    start = peer.model._replace(frozen=server.variables.frozen)
    local = train.run(start, data, key, server.round)
    message = train.message(local, start, data)
    went = Peer(frozen.without(local.variables), server.round)
    return ClientOutput(message, went, local.metrics)

  base = from_client_update(
      client, local_steps=train.planned_steps,
      extra=lambda variables, num_clients: jnp.asarray(
          num_clients, precision.scalar()))

  def server(state: ServerState, aggregate: Aggregate, key) -> ServerState:
    # Over all clients: clients that rest stay where they are.
    share = aggregate.denominator / state.extra
    mean = trees.scale_rows(aggregate.mean, jax.tree.map(
        lambda _: share, aggregate.mean))
    return base.server(state, aggregate._replace(mean=mean), key)

  return base._replace(
      client_init=lambda variables: Peer(
          frozen.without(variables), jnp.int32(-1)),
      broadcast=lambda state: Broadcast(
          state.round, Variables({}, {}, state.variables.frozen)),
      server=server,
      personalize=lambda state, peer, data, key: peer.model._replace(
          frozen=state.variables.frozen),
      gossip=Gossip(
          lambda num_clients: mixing.matrix(graph, num_clients), graph.name))

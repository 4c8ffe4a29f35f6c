"""HierFAVG: clients, edge servers, and a cloud that averages now and then.

    round t, on each client k of the cohort, from the model w_e of its edge e:
      w_k <- kappa_1 local steps from w_e
    each edge e, over its clients of the cohort:
      w_e <- w_e + sum_k n_k (w_k - w_e) / sum_k n_k
    the cloud, after every kappa_2-th round:
      w_e <- sum_e N_e w_e / sum_e N_e,  for all edges

N_e are the examples that have reported to an edge since the cloud's last
average: of all clients, kappa_2 times as many as it has. Liu, Zhang, Song,
Letaief, "Client-Edge-Cloud Hierarchical Federated Learning" (2020), algorithm
1; kappa_1 is `steps` or `epochs`. There all clients take part in each round;
here a cohort is drawn over all clients, and an edge of which nobody is drawn
keeps its model. A round that no message reaches changes nothing, the cloud's
model neither. With kappa_2 = 1 it is FedAvg.

A server optimizer is the cloud's: its pseudo-gradient is minus the mean of how
far the edges went from the cloud's model.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Unpack

import jax
import numpy as np
import optax
from jax import numpy as jnp

from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients.local_sgd import Broadcast
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
)
from fedjax_sim.core import checks, frozen, precision, random, trees
from fedjax_sim.core.topology import Edges
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Model,
    ServerState,
    Variables,
)

ASSIGNMENTS = ('round_robin', 'contiguous', 'random')


class FromEdge(NamedTuple):
  """What an edge sends: the round, its model, and its number, int32 []."""

  round: jax.Array
  variables: Variables
  edge: jax.Array


class Cloud(NamedTuple):
  """What the cloud has.

  Attributes:
    variables: the model that it has sent last.
    weights: float32 [K], the weights that have reported to each edge since.
  """

  variables: Variables
  weights: jax.Array


@takes_training
def hierfavg(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    edges: int | Sequence[int],
    kappa2: int,
    assign: str = 'round_robin',
    edge_seed: int | None = None,
    num_clients: int | None = None,
    cloud_seconds: float = 0.0,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds HierFAVG.

  Args:
    model: what is trained.
    client_optimizer: as in `fedavg`.
    server_optimizer: of the cloud; None averages.
    edges: K, the number of edges; or int [N], the edge of each client, from 0.
    kappa2: rounds from one average of the cloud to the next.
    assign: which clients an edge has, where `edges` is a number. 'round_robin':
      client k is of edge k mod K; 'contiguous': the first N / K clients are of
      edge 0, and so on; 'random': by `edge_seed`, the same for all runs. Edges
      have equally many clients, up to one.
    edge_seed: of 'random' alone; None for 0.
    num_clients: N, which 'contiguous' and 'random' need.
    cloud_seconds: what an average of the cloud adds to a round in simulated
      time: models go from edges to the cloud and back.
    aggregator: of the messages to each edge. The cloud averages models as they
      are.
    **training: as in `local_training`.

  Returns:
    The algorithm. `state.variables` are the edges' models, each leaf [K, ...],
    `state.extra` is a `Cloud`. What is evaluated is what the cloud's plain
    average would be after the round.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.positive_int('kappa2', kappa2)
  checks.one_of('assign', assign, ASSIGNMENTS)
  checks.non_negative('cloud_seconds', cloud_seconds)
  _check_seed(edges, assign, edge_seed)
  count, edge_of, made_for = _edges(edges, assign, edge_seed, num_clients)
  train = local_training(model, client_optimizer, **training)

  def receive(server: Broadcast, slot, keys) -> FromEdge:
    edge = edge_of(slot.client)
    models = frozen.without(server.variables)
    own = jax.tree.map(lambda x: x[edge], models)
    return FromEdge(server.round, own._replace(
        frozen=server.variables.frozen), edge)

  def client(server: FromEdge, client_state, data, key):
    local = train.run(server.variables, data, key, server.round)
    message = train.message(local, server.variables, data)
    message = message._replace(group=jnp.arange(count) == server.edge)
    return ClientOutput(message, client_state, local.metrics)

  base = from_client_update(
      client, server_optimizer, aggregator, train.planned_steps,
      extra=lambda variables, n: Cloud(
          frozen.without(variables), jnp.zeros(count, precision.scalar())))

  def init(variables: Variables, key, num_clients) -> ServerState:
    state = base.init(variables, key, num_clients)
    return state._replace(variables=_copies(variables, count))

  def server(state: ServerState, aggregate: Aggregate, key) -> ServerState:
    cloud: Cloud = state.extra
    edges = _moved(state.variables, aggregate.mean)
    reported = Cloud(cloud.variables, cloud.weights + aggregate.weight)
    whole = base.server(
        state._replace(variables=cloud.variables),
        aggregate._replace(mean=_mean_change(edges, reported)), key)
    averaged = whole._replace(
        variables=_copies(whole.variables, count),
        extra=Cloud(whole.variables, jnp.zeros_like(cloud.weights)))
    between = state._replace(variables=edges, extra=reported)
    is_cloud_s = (state.round + 1) % kappa2 == 0
    return trees.where(
        is_cloud_s, *map(frozen.without, (averaged, between)))

  def evaluated(state: ServerState) -> Variables:
    change = _mean_change(state.variables, state.extra)
    return _moved(state.extra.variables, change)._replace(
        frozen=state.variables.frozen)

  return base._replace(
      init=init, receive=receive, server=server, evaluated=evaluated,
      personalize=lambda state, client_state, data, key: evaluated(state),
      edges=Edges(count, kappa2, cloud_seconds), num_clients=made_for)


def _check_seed(
    edges: int | Sequence[int], assign: str, seed: int | None
) -> None:
  """ValueError for a seed, or a way to assign, that nothing is left to."""
  if np.ndim(edges) and assign != 'round_robin':
    raise ValueError("assign must be left out where edges lists each client's "
                     f'edge, got {assign!r}.')
  if seed is None:
    return
  random.seed('edge_seed', seed)
  if assign != 'random':
    raise ValueError("edge_seed must be left out unless assign='random', got "
                     f'{seed} with {assign!r}.')


def _edges(
    edges: int | Sequence[int], assign: str, seed: int | None,
    num_clients: int | None,
) -> tuple[int, Callable[[jax.Array], jax.Array], int | None]:
  """K, `(client) -> edge`, and N if that must be so."""
  if np.ndim(edges):
    if num_clients not in (None, len(edges)):
      raise ValueError(f'edges must list the edge of each of {num_clients} '
                       f'clients, got {len(edges)}.')
    return _given(np.asarray(edges))
  checks.positive_int('edges', edges)
  if num_clients is not None and edges > num_clients:
    raise ValueError(f'edges must be at most {num_clients}, the number of '
                     f'clients, got {edges}.')
  if assign == 'round_robin':
    return edges, lambda client: client % edges, None
  if num_clients is None:
    raise ValueError(f'assign={assign!r} needs num_clients, the number of '
                     'clients in the federation.')
  place = np.arange(num_clients)
  if assign == 'random':
    place = np.random.default_rng(seed or 0).permutation(num_clients)
  return _given(place * edges // num_clients)


def _given(
    edge_of: np.ndarray
) -> tuple[int, Callable[[jax.Array], jax.Array], int]:
  """As `_edges`, from the edge of each client."""
  if edge_of.ndim != 1 or edge_of.dtype.kind not in 'iu' or not len(edge_of):
    raise ValueError('edges must be a number, or a list of the edge of each '
                     f'client, got {checks.shown(edge_of)}.')
  count = int(edge_of.max()) + 1
  empty = np.setdiff1d(np.arange(count), edge_of)
  if edge_of.min() < 0 or len(empty):
    raise ValueError(
        'edges must be numbered from 0, and each have a client, got '
        + (f'none of edge {empty[0]}.' if len(empty)
           else f'edge {edge_of.min()}.'))
  held = edge_of.astype(np.int32)
  return count, lambda client: jnp.asarray(held)[client], len(edge_of)


def _copies(variables: Variables, count: int) -> Variables:
  """[K, ...] of one model."""
  return jax.tree.map(
      lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))),
      frozen.without(variables))._replace(frozen=variables.frozen)


def _moved(variables: Variables, change: Variables) -> Variables:
  return precision.add(
      frozen.without(variables), frozen.without(change))


def _mean_change(edges: Variables, cloud: Cloud) -> Variables:
  """The mean way of the edges from the cloud's model; wide."""
  change = jax.tree.map(
      lambda x, c: precision.wide(x) - precision.wide(c)[None],
      frozen.without(edges), frozen.without(cloud.variables))
  total = jax.tree.map(lambda x: jnp.sum(x, axis=0), trees.scale_rows(
      change, cloud.weights))
  return trees.divide_rows(total, jnp.sum(cloud.weights))

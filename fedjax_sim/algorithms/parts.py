"""A model in two parts: one is averaged, the other stays with each client.

What FedPer, FedRep and FedBN share. A part is a `Variables` with None in the
place of every array of the other part, which pytree functions pass over.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients.local_sgd import Broadcast
from fedjax_sim.core import frozen, trees
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    ClientUpdate,
    FederatedAlgorithm,
    PyTree,
    ServerState,
    Variables,
)

# A regular expression to be found in an array's path, or `(path) -> bool`.
Select = str | Callable[[str], bool]


class Parts(NamedTuple):
  """How a model is taken apart.

  Attributes:
    mask: `(Variables) -> Variables` of bools, True on what is personal.
  """

  mask: Callable[[Variables], Variables]

  def personal(self, variables: Variables) -> Variables:
    """The personal part."""
    variables = frozen.without(variables)
    return jax.tree.map(
        lambda is_personal, x: x if is_personal else None,
        self.mask(variables), variables)

  def shared(self, variables: Variables) -> Variables:
    """The other part."""
    weights, variables = variables.frozen, frozen.without(variables)
    return jax.tree.map(
        lambda is_personal, x: None if is_personal else x,
        self.mask(variables), variables)._replace(frozen=weights)


def join(personal: PyTree, shared: PyTree) -> PyTree:
  """The whole of two parts; where `shared` has something too, the personal."""
  return jax.tree.map(lambda mine, x: x if mine is None else mine,
                      personal, shared, is_leaf=lambda x: x is None)


def by_path(personal: Select) -> Parts:
  """Parts by the names of arrays, such as 'params/dense_2/kernel'.

  Args:
    personal: what is: a regular expression to be found in a path, 'dense_2',
      or `(path) -> bool`. Paths begin with 'params/' or 'model_state/'.

  Raises:
    ValueError: it is neither; when taken apart, a model has nothing in one of
      the parts.
  """
  is_personal = personal
  if not callable(personal):
    try:
      pattern = re.compile(personal)
    except (re.error, TypeError) as error:
      raise ValueError('personal must be a regular expression or a function of '
                       f'a path, got {personal!r}: {error}.') from error
    is_personal = lambda path: pattern.search(path) is not None

  def mask(variables: Variables) -> Variables:
    chosen = jax.tree.map_with_path(
        lambda path, _: bool(is_personal(trees.path_name(path))), variables)
    if len(set(jax.tree.leaves(chosen.params))) < 2:
      names = [trees.path_name(path) for path, _ in jax.tree.leaves_with_path(
          variables._replace(model_state={}))]
      raise ValueError(
          f'personal must choose some, not all, of {", ".join(names)}, got '
          f'{personal!r}.')
    return chosen

  return Parts(mask)


def from_parts(
    parts: Parts,
    client: ClientUpdate,
    server_optimizer: optax.GradientTransformation | None,
    aggregator: Aggregator | None,
    local_steps: Callable,
) -> FederatedAlgorithm:
  """FedAvg's server for the shared part, and the other as client state.

  Args:
    parts: how models are taken apart.
    client: is given the shared part as `Broadcast.variables`, and the personal
      one as its state; its message's update is a difference of shared parts.
    server_optimizer: as in `fedavg`.
    aggregator: as in `fedavg`.
    local_steps: as in `FederatedAlgorithm`.

  Returns:
    The algorithm. `state.variables` holds the whole model, its personal part
    as it was initially.
  """
  base = from_client_update(client, server_optimizer, aggregator, local_steps)

  def init(variables: Variables, key, num_clients) -> ServerState:
    state = base.init(parts.shared(variables), key, num_clients)
    return state._replace(variables=variables)

  def server(state: ServerState, aggregate: Aggregate, key) -> ServerState:
    shared = state._replace(variables=parts.shared(state.variables))
    new = base.server(shared, aggregate, key)
    return new._replace(variables=join(new.variables, state.variables))

  return base._replace(
      init=init,
      client_init=parts.personal,
      broadcast=lambda state: Broadcast(
          state.round, parts.shared(state.variables)),
      server=server,
      personalize=lambda state, part, data, key: join(
          part, state.variables))

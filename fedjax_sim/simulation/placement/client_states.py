"""Where clients' states lie between rounds: on the devices, or on disk.

The states of the algorithm and the memories of the transforms lie together.
Other code asks `of` for a `ClientStates`, and does not depend on its kind.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import jax
import numpy as np

from fedjax_sim.core import trees
from fedjax_sim.core.types import PyTree
from fedjax_sim.simulation.placement import (
    client_owners,
    device_memory,
    sharding,
    stored_states,
)
from fedjax_sim.simulation.placement.client_store import ClientStore
from fedjax_sim.simulation.placement.stored_states import TABLE, StoredStates
from fedjax_sim.simulation.plan import Plan
from fedjax_sim.simulation.rounds import SimulationState

# Where clients' states can lie, see `simulate`.
CHOICES = ('auto', 'device', 'stored')
# 'auto' stores them where they would take more of the device's memory: there
# are data, lanes' weights and temporary arrays besides.
_SHARE = 1 / 4


class ClientStates(Protocol):
  """The states of all clients, between rounds.

  Attributes:
    size: clients that there is room for; None if clients keep nothing.
    padding: how many of these may only fill up the devices.
  """

  size: int | None
  padding: int

  def load(
      self, plan: Plan, clients: list[np.ndarray] | None
  ) -> tuple[PyTree, PyTree]:
    """What the program takes for a window: states and memories, on devices.

    Args:
      plan: the window's.
      clients: int [·], for each device the clients that the window needs, in
        the order of their places; None if it takes all.
    """

  def commit(
      self, state: SimulationState, plan: Plan,
      clients: list[np.ndarray] | None, rounds: slice,
  ) -> SimulationState:
    """Keeps what the clients of some rounds of a window have now.

    Args:
      state: as the program gives it.
      plan: as given to `load`.
      clients: as given to `load`.
      rounds: which of its rounds.

    Returns:
      The state as it is between rounds.
    """

  def read(self, clients: np.ndarray) -> PyTree:
    """The algorithm's states [M, ...] of clients, int [M]."""

  def block(self, num_clients: int) -> int:
    """How many of these to read at once."""

  def save(
      self, state: SimulationState, round_number: int,
      write: Callable[[SimulationState], None],
  ) -> None:
    """Writes a checkpoint by `write`, and what belongs to it."""

  def restore(
      self, state: SimulationState, round_number: int,
      shapes: Mapping[str, tuple[int, ...]],
      read: Callable[[SimulationState], SimulationState], folder: Path,
  ) -> SimulationState:
    """Reads a checkpoint, whichever way states lay when it was written.

    Args:
      state: the one before the first round.
      round_number: of the checkpoint.
      shapes: of the leaves that it holds, by their paths.
      read: what the checkpoint holds, read like a state.
      folder: for states on disk.

    Raises:
      ValueError: states that were stored are not there any more, or there are
        several processes now.
    """


class DeviceStates(NamedTuple):
  """All states are on the devices, each with the client's owner.

  Attributes:
    clients: the algorithm's, PyTree [N, ...], N filled up for the devices.
    transforms: the transforms' memories, likewise.
  """

  clients: PyTree
  transforms: PyTree

  @property
  def size(self) -> int | None:
    return next((len(x) for x in jax.tree.leaves(self.clients)), None)

  @property
  def padding(self) -> int:
    leaf = next(iter(jax.tree.leaves(self.clients)), None)
    if not isinstance(leaf, jax.Array):  # Taken from the devices.
      return jax.device_count() - 1
    lying = leaf.sharding
    return 0 if lying.is_fully_replicated else len(lying.device_set) - 1

  def load(self, plan, clients):
    del plan, clients
    return self.clients, self.transforms

  def commit(self, state, plan, clients, rounds):
    del plan, clients, rounds
    return state

  def read(self, clients):
    return jax.tree.map(lambda x: x[clients], self.clients)

  def block(self, num_clients):
    return num_clients

  def save(self, state, round_number, write):
    del round_number
    write(state)

  def restore(self, state, round_number, shapes, read, folder):
    if TABLE not in shapes:
      return read(state)
    if jax.process_count() > 1:
      raise ValueError(
          f'the checkpoint of round {round_number} has client states on disk, '
          'with which one process can go on, not several together.')
    (num_clients,) = shapes[TABLE]
    first = jax.tree.map(lambda x: x[0], tuple(self))
    store = ClientStore(folder, num_clients, jax.device_get(first))
    state = read(stored_states.with_table(state, store))
    stored_states.adopt(store, state, round_number)
    clients, transforms = jax.tree.map(
        _fill_up, store.read(np.arange(num_clients)), tuple(self))
    return state._replace(clients=clients, transforms=transforms)


def of(state: SimulationState) -> ClientStates:
  """The clients' states of a state, as it is between rounds."""
  if isinstance(state.clients, StoredStates):
    return state.clients
  return DeviceStates(state.clients, state.transforms)


def _fill_up(states: np.ndarray, like: jax.Array) -> jax.Array:
  """States [N, ...] onto the devices; `like` may be longer, to fill them up."""
  filled = np.zeros(like.shape, like.dtype)
  filled[:len(states)] = states
  return jax.device_put(filled, like.sharding)


def is_stored(
    choice: str, states: PyTree, num_clients: int, devices: int
) -> bool:
  """Whether clients' states are to be stored on disk.

  Args:
    choice: of `CHOICES`.
    states: shapes of one client's.
    num_clients: N.
    devices: D, of all processes together.

  Raises:
    ValueError: they are, and there are several processes.
  """
  need = trees.num_bytes(states) * client_owners.clients_per_device(
      num_clients, devices)
  if choice == 'device' or not jax.tree.leaves(states):
    return False
  if choice == 'auto' and not _is_much(need, devices):
    return False
  if jax.process_count() > 1:
    raise ValueError(
        f'client_state = {choice!r} would store {need / 1e9:.1f} GB of client '
        'states a device on disk, which one process can, and not several '
        "together; client_state = 'device' keeps them on the devices.")
  return True


def _is_much(need: int, devices: int) -> bool:
  """Whether bytes on each device are more than their share of its memory."""
  have = device_memory.available(jax.local_devices()[0])
  if jax.local_devices()[0].platform == 'cpu':  # All in the host's memory.
    need *= devices // jax.process_count()
  (much,) = sharding.agree(have is not None and need > _SHARE * have)
  return bool(much)

"""Clients' states on disk, and on the devices those of a window of rounds.

A device holds a buffer with the states of the clients that it computes in a
window of rounds, each client once. They come before the window's first
dispatch, and what a dispatch has changed goes back after it. Buffers are of one
size, which holds any round.

Of such states a checkpoint holds the store's table; the records stay where they
are. In which order things are written, so that a kill at any moment leaves a
state to go on from, is told in `client_store`.
"""

import jax
import numpy as np

from fedjax_sim.core import trees
from fedjax_sim.core.types import PyTree
from fedjax_sim.simulation.placement import client_owners, sharding
from fedjax_sim.simulation.placement.client_store import ClientStore
from fedjax_sim.simulation.rounds import SimulationState

# In a checkpoint, in place of clients' states; and where it is there.
_TABLE = 'client_store_records'
TABLE = f'clients/{_TABLE}'
# A buffer takes at least this, so that a window is more than a round or two.
_BUFFER_BYTES = 2 ** 26
# Evaluation reads states so many bytes at a time, about.
_BLOCK_BYTES = 2 ** 26
# Clients whose states are moved into a store at once.
_MOVED = 1024


def buffer_size(
    states: PyTree, num_clients: int, devices: int, cohort_size: int
) -> int:
  """Clients that a device's buffer holds: any cohort, even all on one device.

  Args:
    states: shapes of one client's.
    num_clients: N.
    devices: D.
    cohort_size: M.
  """
  size = max(cohort_size, _BUFFER_BYTES // max(trees.num_bytes(states), 1))
  return min(size, client_owners.clients_per_device(num_clients, devices))


@jax.tree_util.register_static
class StoredStates:
  """A `client_states.ClientStates`; as part of a pytree it has no leaves.

  Attributes:
    store: a `ClientStore`, of pairs of a client's state and its memory of the
      transforms.
    buffer: clients that a device's buffer holds.
    placement: the devices, of this process.
  """

  padding = 0

  def __init__(
      self, store: ClientStore, buffer: int, placement: sharding.Placement):
    self.store, self.buffer, self.placement = store, buffer, placement
    self._plan, self._buffers = None, None  # Of the window at hand.

  @property
  def size(self):
    return self.store.num_clients

  def load(self, plan, clients):
    if plan is not self._plan:
      self._plan, self._buffers = plan, self._read_buffers(clients)
    return self._buffers

  def commit(self, state, plan, clients, rounds):
    self._buffers = state.clients, state.transforms
    leaves, structure = jax.tree.flatten(self._buffers)
    # By device, and not as a whole, which would be copied.
    shards = [{(s.index[0].start or 0) // self.buffer: s.data
               for s in leaf.addressable_shards} for leaf in leaves]
    slots = jax.tree.map(lambda x: x[rounds], plan.slots)
    for device, held in enumerate(clients):
      places = np.unique(
          slots.state_index[:, device][slots.present[:, device]])
      self.store.write(held[places], jax.tree.unflatten(
          structure, [np.asarray(leaf[device])[places] for leaf in shards]))
    return state._replace(clients=self, transforms=())

  def read(self, clients):
    return self.store.read(clients)[0]

  def block(self, num_clients):
    return min(max(1, _BLOCK_BYTES // self.store.record_bytes), num_clients)

  def save(self, state, round_number, write):
    self.store.flush()
    write(with_table(state, self.store))
    self.store.adopt(self.store.table, round_number)

  def restore(self, state, round_number, shapes, read, folder):
    del folder
    if TABLE in shapes:
      state = read(with_table(state, self.store))
      adopt(self.store, state, round_number)
    else:
      state = read(self._on_host(state))
      self.store.adopt(np.zeros(self.size, np.int32), round_number)
      self._take((state.clients, state.transforms))
    return state._replace(clients=self, transforms=())

  def _read_buffers(self, clients: list[np.ndarray]) -> tuple[PyTree, PyTree]:
    """PyTrees [D * buffer, ...] on the devices."""
    def one(*parts):
      shape = (self.placement.size * self.buffer, *parts[0].shape[1:])
      return jax.make_array_from_callback(
          shape, self.placement.split(),
          lambda index: parts[(index[0].start or 0) // self.buffer])

    return jax.tree.map(
        one, *(self.store.read(held, self.buffer) for held in clients))

  def _on_host(self, state: SimulationState) -> SimulationState:
    """With room for all clients' states, to be read into NumPy arrays."""
    clients, transforms = jax.tree.map(
        lambda x: np.empty((self.size, *x.shape[1:]), x.dtype),
        self.store.read(np.zeros(1, int)))
    return state._replace(clients=clients, transforms=transforms)

  def _take(self, states: tuple[PyTree, PyTree]) -> None:
    """Writes all clients' states."""
    for start in range(0, self.size, _MOVED):
      clients = np.arange(start, min(start + _MOVED, self.size))
      self.store.write(clients, jax.tree.map(lambda x, c=clients: x[c], states))


def with_table(state: SimulationState, store: ClientStore) -> SimulationState:
  """As a checkpoint has it: the store's table in place of the states."""
  table = {_TABLE: jax.numpy.asarray(store.table)}
  return state._replace(clients=table, transforms=())


def adopt(
    store: ClientStore, state: SimulationState, round_number: int) -> None:
  """Goes on from the table that a checkpoint holds."""
  store.adopt(np.asarray(state.clients[_TABLE]), round_number)

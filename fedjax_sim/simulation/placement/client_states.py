"""Which clients' states the devices hold: all, or those of some rounds.

Where states are stored on disk (`client_store`), a device holds a buffer with
the rows of the clients that it computes in a window of rounds, each client
once. They come before the window's first dispatch, and what a dispatch has
changed goes back after it.
"""

import jax
import numpy as np

from fedjax_sim.core import trees
from fedjax_sim.core.types import PyTree
from fedjax_sim.simulation.placement import (
  client_owners,
  device_memory,
  sharding,
)
from fedjax_sim.simulation.placement.client_store import ClientStore
from fedjax_sim.simulation.plan import Plan

# Where clients' states can lie, see `simulate`.
CHOICES = ('auto', 'device', 'stored')
# 'auto' stores them where they would take more of the device's memory: there
# are data, lanes' weights and temporary arrays besides.
_SHARE = 1 / 4
# A buffer takes at least this, so that a window is more than a round or two.
_BUFFER_BYTES = 2 ** 26


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
  if jax.default_backend() == 'cpu':  # All in the host's memory.
    need *= devices // jax.process_count()
  (much,) = sharding.agree(have is not None and need > _SHARE * have)
  return bool(much)


def buffer_rows(
    states: PyTree, num_clients: int, devices: int, cohort_size: int
) -> int:
  """The rows of a device's buffer: any cohort fits, even all on one device."""
  rows = max(cohort_size, _BUFFER_BYTES // max(trees.num_bytes(states), 1))
  return min(rows, client_owners.clients_per_device(num_clients, devices))


def put(
    store: ClientStore, held: list[np.ndarray], rows: int,
    placement: sharding.Placement,
) -> tuple[PyTree, PyTree]:
  """The buffers [D * rows, ...] of clients' and transforms' states.

  Args:
    store: of pairs of both.
    held: int [·], for each device the clients, in the order of their rows.
    rows: of a buffer.
    placement: D devices, of this process.
  """
  def one(*parts):
    shape = (placement.size * rows, *parts[0].shape[1:])
    return jax.make_array_from_callback(
        shape, placement.split(),
        lambda index: parts[(index[0].start or 0) // rows])

  return jax.tree.map(one, *(store.read(clients, rows) for clients in held))


def take_back(
    store: ClientStore, states: tuple[PyTree, PyTree],
    held: list[np.ndarray], plan: Plan, rounds: slice,
) -> None:
  """Stores the rows of the clients of some rounds.

  Args:
    store: where to.
    states: the buffers, as `put` has made them, after these rounds.
    held: as in `put`.
    plan: of the window.
    rounds: which of its rounds.
  """
  leaves, structure = jax.tree.flatten(states)
  rows = len(leaves[0]) // len(held)
  # By device, and not as a whole, which would be copied.
  shards = [{(s.index[0].start or 0) // rows: s.data
             for s in leaf.addressable_shards} for leaf in leaves]
  for device, clients in enumerate(held):
    present = plan.present[rounds, device]
    own = np.unique(plan.rows[rounds, device][present])
    store.write(clients[own], jax.tree.unflatten(
        structure, [np.asarray(leaf[device])[own] for leaf in shards]))

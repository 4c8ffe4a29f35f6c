"""Checkpoints of a `SimulationState`, with clients' states that are on disk.

Of those a checkpoint holds the table; their records stay where they are. In
which order things are written, so that a kill at any moment leaves a state to
go on from, is told in `placement.client_store`. A run may go on with states on
the devices that were stored before, and the other way round.
"""

from pathlib import Path

import jax
import numpy as np

from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.simulation.engine import SimulationState
from fedjax_sim.simulation.placement.client_store import ClientStore

# In a run's folder.
FOLDER = 'client_states'
# In a checkpoint, in place of clients' states.
_TABLE = 'client_store_records'
# Clients whose states are moved at once.
_BLOCK = 1024


def save(
    checkpoints: Checkpoints, round_number: int, state: SimulationState
) -> None:
  """Writes a checkpoint; on return it is on disk."""
  store = state.clients
  if not isinstance(store, ClientStore):
    checkpoints.save(round_number, state)
    return
  if round_number == checkpoints.latest():
    return  # It has a table already, whose records must stay.
  store.flush()
  checkpoints.save(round_number, _with_table(state))
  store.adopt(store.table, round_number)


def restore(
    checkpoints: Checkpoints, round_number: int, like: SimulationState,
    folder: Path,
) -> SimulationState:
  """Reads a state.

  Args:
    checkpoints: of the run.
    round_number: of one of them; where states were stored, of the newest.
    like: the state before the first round.
    folder: the run's.

  Raises:
    ValueError: the checkpoint can't be read, clients' states that were stored
      are not there any more, or there are several processes now.
  """
  shapes = checkpoints.shapes(round_number)
  was_stored = f'clients/{_TABLE}' in shapes
  store = like.clients
  if isinstance(store, ClientStore):
    if was_stored:
      state = checkpoints.restore(round_number, _with_table(like))
      store.adopt(np.asarray(state.clients[_TABLE]), round_number)
    else:
      state = checkpoints.restore(round_number, _on_host(like, store))
      store.adopt(np.zeros(store.num_clients, np.int32), round_number)
      _fill(store, (state.clients, state.transforms))
    return state._replace(clients=store, transforms=())
  if not was_stored:
    return checkpoints.restore(round_number, like)
  if jax.process_count() > 1:
    raise ValueError(
        f'the checkpoint of round {round_number} has client states on disk, '
        'with which one process can go on, not several together.')
  (num_clients,) = shapes[f'clients/{_TABLE}']
  first = jax.tree.map(lambda x: x[0], (like.clients, like.transforms))
  store = ClientStore(folder / FOLDER, num_clients, jax.device_get(first))
  state = checkpoints.restore(round_number, _with_table(
      like._replace(clients=store)))
  store.adopt(np.asarray(state.clients[_TABLE]), round_number)
  clients, transforms = jax.tree.map(
      _put, store.read(np.arange(num_clients)),
      (like.clients, like.transforms))
  return state._replace(clients=clients, transforms=transforms)


def _with_table(state: SimulationState) -> SimulationState:
  """With the table in place of the store."""
  table = {_TABLE: jax.numpy.asarray(state.clients.table)}
  return state._replace(clients=table, transforms=())


def _on_host(like: SimulationState, store: ClientStore) -> SimulationState:
  """With rows for all clients, to be read into NumPy arrays."""
  clients, transforms = jax.tree.map(
      lambda x: np.empty((store.num_clients, *x.shape[1:]), x.dtype),
      store.read(np.zeros(1, int)))
  return like._replace(clients=clients, transforms=transforms)


def _fill(store: ClientStore, states) -> None:
  """Writes all clients' states."""
  for start in range(0, store.num_clients, _BLOCK):
    clients = np.arange(start, min(start + _BLOCK, store.num_clients))
    store.write(clients, jax.tree.map(lambda x, c=clients: x[c], states))


def _put(rows: np.ndarray, like: jax.Array) -> jax.Array:
  """Rows [N, ...] onto the devices; `like` may have more, to fill them up."""
  filled = np.zeros(like.shape, like.dtype)
  filled[:len(rows)] = rows
  return jax.device_put(filled, like.sharding)

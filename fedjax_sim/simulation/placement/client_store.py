"""Clients' states on disk: each client's as one record of a mapped file.

Record 0 is the state that every client starts with; a table says for each
client which record is its own, at first that one. So a client that has not
taken part costs neither disk nor time, and the file grows with those that have.

A kill at any moment leaves what the last checkpoint needs, since no record that
its table names is ever written to: a client's first new state after a
checkpoint goes to a free record, later ones over that. This is the order:

  1. Rounds write to records that the last checkpoint doesn't name.
  2. `flush` brings the file to the disk.
  3. The checkpoint is written, the table in it, and committed as a whole.
  4. `adopt` notes in `store.json` that older checkpoints can't be restored any
     more, and then takes the records that only they name as free.

A kill before 3 is done leaves the older table with its records, and one after
it the new table with its own; nothing is undone or redone. Beyond one record
for each client seen, the file holds as many as were written since the last
checkpoint.
"""

import json
import math
import os
import tempfile
from pathlib import Path

import jax
import numpy as np

from fedjax_sim.core import files
from fedjax_sim.core.types import PyTree

_RECORDS, _META = 'records.bin', 'store.json'
# A file grows by at least this many bytes, and by an eighth.
_GROWTH_BYTES = 2 ** 24
# States are copied so many bytes at a time, which a core's cache holds.
_COPY_BYTES = 2 ** 20


class ClientStore:
  """States of N clients, in a folder or in a temporary file.

  Attributes:
    num_clients: N.
    record_bytes: of a record.
  """

  def __init__(self, folder: Path | None, num_clients: int, first: PyTree):
    """Nothing is read or written until `write` or `adopt`.

    Args:
      folder: for the files; None for a file that ends with the process, where
        the system keeps such ($TMPDIR).
      num_clients: N.
      first: PyTree of arrays, the state that each client starts with.

    Raises:
      ValueError: it holds random keys.
    """
    leaves, self._structure = jax.tree.flatten(first)
    for x in leaves:
      if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        raise ValueError(
            "client_state = 'stored' takes numbers, got a client state with "
            "random keys in it; client_state must be 'device' here.")
    leaves = [np.ascontiguousarray(x).reshape(np.shape(x)) for x in leaves]
    self.num_clients, self._folder, self._file = num_clients, folder, None
    self._shapes = [(x.dtype, x.shape) for x in leaves]
    ends = np.cumsum([0, *(x.nbytes for x in leaves)]).tolist()
    self._columns = [slice(*pair) for pair in zip(ends, ends[1:], strict=False)]
    self.record_bytes = ends[-1]
    self._records = np.concatenate([_as_bytes(x[None]) for x in leaves], axis=1)
    self._oldest = 0
    self._reset(np.zeros(num_clients, np.int32))

  @property
  def table(self) -> np.ndarray:
    """int32 [N], each client's record; a checkpoint is to hold it."""
    return self._table.copy()

  @property
  def num_records(self) -> int:
    """Records in use or free, the first one included."""
    return self._end

  def read(self, clients: np.ndarray, length: int | None = None) -> PyTree:
    """The states of clients, as new NumPy arrays.

    Args:
      clients: int [M].
      length: of the arrays, zero from M on; None is M.

    Returns:
      PyTree [length, ...].
    """
    records = self._table[clients]
    length = len(records) if length is None else length
    step = max(1, _COPY_BYTES // max(self.record_bytes, 1))
    leaves = []
    for columns, (dtype, shape) in zip(
        self._columns, self._shapes, strict=True):
      leaf = np.zeros((length, columns.stop - columns.start), np.uint8)
      for i in range(0, len(records), step):
        part = records[i:i + step]
        leaf[i:i + len(part)] = self._records[part, columns]
      leaves.append(leaf.view(dtype).reshape(length, *shape))
    return jax.tree.unflatten(self._structure, leaves)

  def write(self, clients: np.ndarray, states: PyTree) -> None:
    """Sets the states, PyTree [M, ...], of distinct clients, int [M].

    Raises:
      OSError: the disk is full.
    """
    self._renew(np.asarray(clients))
    records = self._table[clients]
    for columns, leaf in zip(
        self._columns, jax.tree.leaves(states), strict=True):
      self._records[records, columns] = _as_bytes(np.asarray(leaf))

  def flush(self) -> None:
    """Brings all that was written to the disk, before a checkpoint."""
    if self._file is not None:
      self._records.flush()
      os.fsync(self._file.fileno())

  def adopt(self, table: np.ndarray, round_number: int) -> None:
    """Takes a committed checkpoint's table: one just written, or to go on from.

    Args:
      table: int32 [N].
      round_number: the checkpoint's.

    Raises:
      ValueError: the files are not those that the checkpoint was written with.
    """
    if self._file is None and table.any():
      self._open(table, round_number)
    self._oldest = round_number
    if self._file is not None:
      self._write_meta()
    self._reset(np.array(table, np.int32))

  def _reset(self, table: np.ndarray) -> None:
    """A table whose records must not change; all others are free."""
    self._table = table
    self._renewed = np.zeros(self.num_clients, bool)
    self._end = max(int(table.max(initial=0)) + 1, 1)
    used = np.zeros(self._end, bool)
    used[table] = used[0] = True
    self._free = np.flatnonzero(~used)

  def _renew(self, clients: np.ndarray) -> None:
    """Gives clients records that may be written to."""
    clients = clients[~self._renewed[clients]]
    if not len(clients):
      return
    again, self._free = np.split(self._free, [len(clients)])
    end = self._end + len(clients) - len(again)
    if self._file is None or end > len(self._records):
      self._grow(end)
    self._table[clients] = np.r_[again, np.arange(self._end, end)]
    self._renewed[clients] = True
    self._end = end

  def _grow(self, least: int) -> None:
    """Makes room for records."""
    first = None
    if self._file is None:
      first = np.array(self._records[:1])
      self._file = self._new_file()
    held = len(self._records)
    count = max(least, held + held // 8,
                held + _GROWTH_BYTES // max(self.record_bytes, 1))
    size = count * self.record_bytes
    if hasattr(os, 'posix_fallocate'):
      # So that a full disk is an error here, not a signal when a page is hit.
      os.posix_fallocate(self._file.fileno(), 0, size)
    else:
      self._file.truncate(size)
    self._map(count)
    if first is not None:
      self._records[:1] = first

  def _new_file(self):
    if self._folder is None:
      return tempfile.TemporaryFile()
    self._folder.mkdir(parents=True, exist_ok=True)
    file = open(self._folder / _RECORDS, 'w+b')
    self._write_meta()
    files.sync_folder(self._folder.parent)
    return file

  def _map(self, count: int) -> None:
    self._records = np.memmap(self._file, np.uint8, 'r+',
                              shape=(count, self.record_bytes))

  def _meta(self) -> dict:
    return {'clients': self.num_clients, 'oldest_round': self._oldest,
            'leaves': [[d.name, list(shape)] for d, shape in self._shapes]}

  def _write_meta(self) -> None:
    if self._folder is not None:
      with files.replacing(self._folder / _META) as file:
        file.write(json.dumps(self._meta(), indent=1).encode())
      files.sync_folder(self._folder)

  def _open(self, table: np.ndarray, round_number: int) -> None:
    """Opens the files of an earlier process."""
    file = self._folder / _RECORDS
    try:
      meta = json.loads((self._folder / _META).read_text())
      oldest = meta['oldest_round']
      size = file.stat().st_size
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise ValueError(
          f'the checkpoint of round {round_number} needs the client states in '
          f"{self._folder}, which can't be read: {error!r}.") from error
    if oldest > round_number:
      raise ValueError(
          f'the client states in {self._folder} are those of round {oldest} or '
          f'later, the newest checkpoint is of round {round_number}.')
    count = size // self.record_bytes
    same = meta | {'oldest_round': 0} == self._meta() | {'oldest_round': 0}
    if not same or count <= table.max():
      raise ValueError(
          f'the client states in {self._folder} are not those of this run.')
    self._file = open(file, 'r+b')
    self._map(count)


def _as_bytes(states: np.ndarray) -> np.ndarray:
  """uint8 [M, ·], the bytes of states [M, ...]."""
  flat = np.ascontiguousarray(states).reshape(
      len(states), math.prod(states.shape[1:]))
  return flat.view(np.uint8)

"""Clients' states on disk: each client's as one record of a mapped file.

Record 0 is the state that every client starts with; a table says for each
client which record is its own, at first that one. So a client that has not
taken part costs neither disk nor time, and the file grows with those that have.

A kill at any moment leaves what the last checkpoint and the one before need,
since no record that their tables name is ever written to: a client's first new
state after a checkpoint goes to a free record, later ones over that. This is
the order:

  1. Rounds write to records that the last two checkpoints don't name.
  2. `flush` brings the file to the disk.
  3. The checkpoint is written, the table in it, and committed as a whole.
  4. `adopt` notes in `store.json` which checkpoints can't be restored any more,
     and then takes the records that only they name as free.

A kill before 3 is done leaves the older table with its records, and one after
it the new table with its own; nothing is undone or redone. Beyond one record
for each client seen, the file holds as many as were written since the last
checkpoint but one.

A record ends with its CRC-32, begun with the client's number, so that a bad
disk, or another client's record, is noticed when a state is read.
"""

import math
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from fedjax_sim.core import files, sealed_json
from fedjax_sim.core.types import PyTree

_RECORDS, _META = 'records.bin', 'store.json'
# A file grows by at least this many bytes, and by an eighth.
_GROWTH_BYTES = 2 ** 24
# States are copied so many bytes at a time, which a core's cache holds.
_COPY_BYTES = 2 ** 20
# Of a record's checksum, at its end.
_SUM_BYTES = 4


class ClientStore:
  """States of N clients, in a folder or in a temporary file.

  Attributes:
    num_clients: N.
    record_bytes: of a state.
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
    self._record_bytes = self.record_bytes + _SUM_BYTES
    self._adopted: list[tuple[int, np.ndarray]] = []  # Rounds and tables.
    self._table = np.zeros(num_clients, np.int32)
    self._records = np.zeros((1, self._record_bytes), np.uint8)
    self._fill(np.zeros(1, int), np.zeros(1, int), [x[None] for x in leaves])
    self._reset(self._table)

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

    Raises:
      ValueError: a state is not what was written.
    """
    length = len(clients) if length is None else length
    leaves = [np.zeros((length, columns.stop - columns.start), np.uint8)
              for columns in self._columns]
    for part in self._parts(clients):
      rows = self._records[self._table[clients[part]]]
      self._verify(clients[part], rows)
      for leaf, columns in zip(leaves, self._columns, strict=True):
        leaf[part] = rows[:, columns]
    return jax.tree.unflatten(self._structure, [
        leaf.view(dtype).reshape(length, *shape) for leaf, (dtype, shape)
        in zip(leaves, self._shapes, strict=True)])

  def write(self, clients: np.ndarray, states: PyTree) -> None:
    """Sets the states, PyTree [M, ...], of distinct clients, int [M].

    Raises:
      OSError: the disk is full.
    """
    clients = np.asarray(clients)
    self._renew(clients)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(states)]
    for part in self._parts(clients):
      self._fill(self._table[clients[part]], clients[part] + 1,
                 [leaf[part] for leaf in leaves])

  def flush(self) -> None:
    """Brings all that was written to the disk, before a checkpoint."""
    if self._file is not None:
      with files.naming(self._name):
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
    table = np.array(table, np.int32)
    if self._file is None and table.any():
      self._open(table, round_number)
    self._adopted = [*self._adopted, (round_number, table)][-2:]
    if self._file is not None:
      self._write_meta()
    self._reset(table)

  def _parts(self, clients: np.ndarray) -> Iterator[slice]:
    """Of a few clients each."""
    step = max(1, _COPY_BYTES // self._record_bytes)
    for start in range(0, len(clients), step):
      yield slice(start, min(start + step, len(clients)))

  def _fill(
      self, records: np.ndarray, first: np.ndarray, leaves: list[np.ndarray]
  ) -> None:
    """Writes records, each with its checksum, which begins with `first`."""
    rows = np.empty((len(records), self._record_bytes), np.uint8)
    for columns, leaf in zip(self._columns, leaves, strict=True):
      rows[:, columns] = _as_bytes(leaf)
    rows[:, self.record_bytes:] = self._sums(rows, first)
    self._records[records] = rows

  def _sums(self, rows: np.ndarray, first: np.ndarray) -> np.ndarray:
    """uint8 [M, 4], the checksums of rows, which begin with `first`."""
    sums = [zlib.crc32(row[:self.record_bytes], start)
            for row, start in zip(rows, first.tolist(), strict=True)]
    return np.array(sums, '<u4').view(np.uint8).reshape(-1, _SUM_BYTES)

  def _verify(self, clients: np.ndarray, rows: np.ndarray) -> None:
    # Record 0 is nobody's.
    first = np.where(self._table[clients] > 0, clients + 1, 0)
    good = (self._sums(rows, first) == rows[:, self.record_bytes:]).all(axis=1)
    if not good.all():
      raise ValueError(
          f'{self._name}: the state of client number '
          f'{clients[np.argmin(good)]} is damaged: its checksum is not that '
          'of what was written. If the last checkpoint but one has an earlier '
          'state of this client, the run goes on from there once the last '
          "one's folder has another name.")

  @property
  def _name(self) -> str:
    """Of the file, in messages."""
    return ('a temporary file' if self._folder is None
            else str(self._folder / _RECORDS))

  def _reset(self, table: np.ndarray) -> None:
    """A table to go on from; records of no adopted one are free."""
    self._table = table.copy()
    self._renewed = np.zeros(self.num_clients, bool)
    tables = [table, *(t for _, t in self._adopted)]
    self._end = 1 + max(int(t.max(initial=0)) for t in tables)
    used = np.zeros(self._end, bool)
    used[0] = True
    for one in tables:
      used[one] = True
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
                held + _GROWTH_BYTES // self._record_bytes)
    size = count * self._record_bytes
    with files.naming(self._name):
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
                              shape=(count, self._record_bytes))

  def _meta(self) -> dict:
    oldest = self._adopted[0][0] if self._adopted else 0
    return {'clients': self.num_clients, 'oldest_round': oldest,
            'leaves': [[d.name, list(shape)] for d, shape in self._shapes]}

  def _write_meta(self) -> None:
    if self._folder is not None:
      sealed_json.write(self._folder / _META, self._meta())
      files.sync_folder(self._folder)

  def _open(self, table: np.ndarray, round_number: int) -> None:
    """Opens the files of an earlier process."""
    file = self._folder / _RECORDS
    try:
      meta = sealed_json.read(self._folder / _META)
      oldest = meta['oldest_round']
      size = file.stat().st_size
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise ValueError(
          f'the checkpoint of round {round_number} needs the client states in '
          f"{self._folder}, which can't be read: {error!r}.") from error
    if oldest > round_number:
      raise ValueError(
          f'the client states in {self._folder} are those of round {oldest} or '
          f'later, the newest good checkpoint is of round {round_number}.')
    count = size // self._record_bytes
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

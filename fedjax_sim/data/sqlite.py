"""The SQLite files of TensorFlow Federated and FedJAX, read and written.

A table `federated_data(client_id BLOB NOT NULL PRIMARY KEY, data BLOB NOT NULL,
num_examples INTEGER NOT NULL)`; `data` is zlib of msgpack of a dict of arrays.
An array of numbers is msgpack's extension type 1, itself msgpack of (shape,
name of the dtype, bytes in C order); one of byte strings is type 4, msgpack of
(shape, the strings in a row).

A file may come from anywhere, so what it claims is bounded before it is
believed: a client's data unpack to at most MAX_CLIENT_BYTES, and whatever is
wrong with a row is a `ValueError` that names the file and the row.
"""

import contextlib
import hashlib
import math
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from fedjax_sim.core import file_names, files
from fedjax_sim.data import mapped
from fedjax_sim.data.federated import FederatedData, is_numeric
from fedjax_sim.data.sets import raw_files

MAX_CLIENT_BYTES = 2 ** 29  # 512 MiB; TFF's largest clients have some ten MB.

_NUMBERS, _STRINGS = 1, 4
_TABLE = ('CREATE TABLE federated_data (client_id BLOB NOT NULL PRIMARY KEY, '
          'data BLOB NOT NULL, num_examples INTEGER NOT NULL)')

# What those projects' own files call inputs and labels.
_FIELDS = ({'x': 'pixels', 'y': 'label'}, {'x': 'image', 'y': 'label'},
           {'x': 'x', 'y': 'y'})

Examples = dict[str, np.ndarray]


def read_sqlite(
    path: Path | str,
    *,
    fields: Mapping[str, str] | None = None,
    transform: Callable[[Examples], Examples] | None = None,
    folder: Path | str | None = None,
) -> FederatedData:
  """Opens a file of that layout as a federation that is not held in memory.

  The first time it is gone through client by client, and written as
  `mapped.write_mapped` does; later only that is opened.

  Args:
    path: the file.
    fields: our name -> the file's, such as {'x': 'pixels', 'y': 'label'}; None
      takes `pixels` or `image`, and `label`, or `x` and `y`.
    transform: applied to each client's arrays (as the file names them) instead
      of `fields`: to make tokens of byte strings, for example.
    folder: where the mapped form is kept; None is our cache folder, by the
      file's path, size, time of change and `fields`. With a `transform`, which
      can't be told from another one, it must be given.

  Returns:
    The clients in the order of the file.

  Raises:
    ValueError: there is no such file, it is of another layout or damaged,
      `fields` name none of its arrays, or a client is empty, too large or
      refused by `mapped.write_mapped`.
  """
  path = file_names.as_path('path', path)
  if not path.is_file():
    raise ValueError(f'path must be an SQLite file, there is none at '
                     f'{str(path)!r}.')
  if transform is not None and (folder is None or fields is not None):
    raise ValueError('transform takes the place of fields and needs a folder '
                     'for what it makes.')
  folder = (_cached(path, fields) if folder is None
            else file_names.as_path('folder', folder))
  if folder.exists():
    return mapped.open_mapped(folder)
  take = transform or _renaming(path, fields)
  return mapped.write_mapped(
      folder, ((name, take(examples))
               for name, examples in iterate_sqlite(path)))


def iterate_sqlite(
    path: Path | str, *, max_client_bytes: int = MAX_CLIENT_BYTES
) -> Iterator[tuple[bytes, Examples]]:
  """(client id, arrays) of each client, one in memory at a time.

  Args:
    path: the file.
    max_client_bytes: what a client's data may unpack to, which a few bytes in
      the file can make very many.

  Raises:
    ValueError: the file is of another layout; or naming the row that is
      damaged, too large, or of other counts than it says.
  """
  path = file_names.as_path('path', path)
  uri = f'{path.resolve().as_uri()}?mode=ro'
  try:
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
      connection.setlimit(
          sqlite3.SQLITE_LIMIT_LENGTH, min(max_client_bytes, 10 ** 9))
      _check_is_table(connection)
      for row, (client_id, data, size) in enumerate(connection.execute(
          'SELECT client_id, data, num_examples FROM federated_data '
          'ORDER BY rowid')):
        with _naming(path, row, client_id):
          examples = unpack(data, max_client_bytes)
          _check_count(size, examples)
          name = _as_bytes(client_id)
        yield name, examples
  except sqlite3.Error as error:
    raise ValueError(
        f'{str(path)!r} is not of the federated_data layout: {error}.'
    ) from error


def _check_is_table(connection: sqlite3.Connection) -> None:
  # A view would be a program of the file's, which may never end.
  found = connection.execute(
      "SELECT type FROM sqlite_master WHERE name = 'federated_data'").fetchone()
  if found != ('table',):
    raise sqlite3.DatabaseError('it has no table federated_data')


@contextlib.contextmanager
def _naming(path: Path | str, row: int, client_id: Any) -> Iterator[None]:
  """Whatever is wrong within, the error names the file and the row."""
  try:
    yield
  except Exception as error:  # msgpack, zlib and NumPy raise many types.
    raise ValueError(
        f'{str(path)!r}, row {row + 1} (client {client_id!r:.60}): '
        f'{str(error) or type(error).__name__}') from error


def _check_count(size: Any, examples: Examples) -> None:
  lengths = {name: len(leaf) for name, leaf in examples.items()}
  if set(lengths.values()) != {size}:
    raise ValueError(f'num_examples is {size!r}, but the arrays have {lengths} '
                     'entries.')


def write_sqlite(
    path: Path | str, clients: Iterable[tuple[Any, Examples]]
) -> None:
  """Writes clients one by one; `path` appears once it is complete.

  Args:
    path: of the file; one that is there is replaced.
    clients: (client id, dict of arrays [n, ...], of numbers or, as object
      arrays, of byte strings).

  Raises:
    ValueError: a client's arrays have different lengths, or a dtype that the
      layout can't hold; or two clients have one id.
  """
  with files.replacing(file_names.as_path('path', path)) as file:
    with contextlib.closing(sqlite3.connect(file.name)) as connection:
      connection.execute(_TABLE)
      try:
        connection.executemany(
            'INSERT INTO federated_data VALUES (?, ?, ?)',
            ((_as_bytes(client_id), _pack(client_id, examples), size)
             for client_id, examples in clients
             for size in [_size(client_id, examples)]))
      except sqlite3.IntegrityError as error:
        raise ValueError(f'client ids must be distinct: {error}.') from error
      connection.commit()


def _cached(path: Path, fields) -> Path:
  status = path.stat()
  parts = (str(path.resolve()), status.st_size, status.st_mtime_ns,
           sorted((fields or {}).items()))
  name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
  # Of the file's name only what helps to recognise it.
  return files.cache_folder() / 'federations' / f'{path.stem[:60]}-{name}'


def _renaming(path: Path, fields) -> Callable[[Examples], Examples]:
  """Picks the fields, of all clients as of the first."""
  first = next(iter(iterate_sqlite(path)), None)
  if first is None:
    raise ValueError(f'{str(path)!r} holds no clients.')
  there = first[1].keys()
  choices = [fields] if fields is not None else _FIELDS
  for choice in choices:
    if set(choice.values()) <= there:
      return lambda examples: {
          ours: examples[theirs] for ours, theirs in choice.items()}
  raise ValueError(
      f'fields must name arrays of {str(path)!r}, which has '
      f'{", ".join(sorted(there))}; got {fields}.')


def _as_bytes(client_id) -> bytes:
  if isinstance(client_id, bytes):
    return client_id
  return str(client_id).encode()


def _size(client_id, examples: Examples) -> int:
  if not isinstance(examples, Mapping) or not examples:
    raise ValueError(f'client {client_id}: examples must be a dict of arrays, '
                     f'got {examples!r:.60}.')
  sizes = {name: len(leaf) if np.ndim(leaf) else None
           for name, leaf in examples.items()}
  if not all(isinstance(name, str) for name in sizes):
    raise ValueError(f'client {client_id}: the names of arrays must be text, '
                     f'got {list(sizes)}.')
  if len(set(sizes.values())) != 1 or None in sizes.values():
    raise ValueError(f'client {client_id}: all arrays must have one entry per '
                     f'example, got {sizes}.')
  return next(iter(sizes.values()))


def _pack(client_id, examples: Examples) -> bytes:
  def pack(x):
    if not isinstance(x, np.ndarray):
      raise ValueError(f'client {client_id}: {type(x).__name__} is no array.')
    if x.dtype == object:
      content = x.shape, x.ravel().tolist()
      if not all(isinstance(item, bytes) for item in content[1]):
        raise ValueError(
            f'client {client_id}: object arrays must hold byte strings.')
      return msgpack.ExtType(_STRINGS, msgpack.packb(content))
    if x.dtype.kind not in 'biufc' and x.dtype.name != 'bfloat16':
      raise ValueError(f'client {client_id}: numbers or byte strings (dtype '
                       f'object) can be written, got dtype {x.dtype}.')
    native = x.astype(x.dtype.newbyteorder('='), copy=False)
    return msgpack.ExtType(_NUMBERS, msgpack.packb(
        (x.shape, x.dtype.name, native.tobytes())))
  return zlib.compress(msgpack.packb(examples, default=pack))


def unpack(data: bytes, max_bytes: int = MAX_CLIENT_BYTES) -> Examples:
  """A client's arrays out of a row's `data`.

  Raises:
    ValueError: it is no dict of arrays, or of more than `max_bytes` bytes.
    zlib.error, msgpack.UnpackException: it is damaged.
  """
  if not isinstance(data, bytes):
    raise ValueError(f'data must be bytes, got {type(data).__name__}.')
  packed = raw_files.inflate(data, max_bytes, 'zlib')
  examples = msgpack.unpackb(packed, ext_hook=_array)
  if not (isinstance(examples, dict) and examples and all(
      isinstance(name, str) and isinstance(leaf, np.ndarray) and leaf.ndim
      for name, leaf in examples.items())):
    raise ValueError('data must hold a dict of arrays with a leading axis of '
                     f'examples, got {examples!r:.100}.')
  return examples


def _array(code: int, content: bytes) -> np.ndarray:
  """An array of an extension type; its shape is checked before it is used."""
  if code not in (_NUMBERS, _STRINGS):
    raise ValueError(f'extension type {code} is not of the layout.')
  parts = msgpack.unpackb(content, raw=code == _STRINGS)
  expected = 3 if code == _NUMBERS else 2
  if not isinstance(parts, list) or len(parts) != expected:
    raise ValueError(f'an array must have {expected} parts.')
  shape = parts[0]
  if not isinstance(shape, list) or not all(
      type(n) is int and n >= 0 for n in shape):
    raise ValueError(f'{shape!r:.100} is no shape.')
  if code == _STRINGS:
    return _strings(shape, parts[1])
  return _numbers(shape, *parts[1:])


def _strings(shape: list[int], values: Any) -> np.ndarray:
  if not isinstance(values, list) or not all(
      isinstance(x, bytes) for x in values):
    raise ValueError('an array of strings must hold byte strings.')
  if math.prod(shape) != len(values):
    raise ValueError(f'shape {shape} is not that of {len(values)} strings.')
  array = np.empty(len(values), object)
  array[:] = values
  return array.reshape(shape)


def _numbers(shape: list[int], dtype: Any, values: Any) -> np.ndarray:
  if not isinstance(dtype, str) or not isinstance(values, bytes):
    raise ValueError('an array must have the name of a dtype and bytes.')
  kind = np.dtype(dtype)
  if not is_numeric(kind):
    raise ValueError(f'dtype {dtype!r:.40} is not of numbers.')
  if math.prod(shape) * kind.itemsize != len(values):
    raise ValueError(f'shape {shape} of {dtype} is not that of {len(values)} '
                     'bytes.')
  return np.frombuffer(values, kind).reshape(shape)

"""The SQLite files of TensorFlow Federated and FedJAX, read and written.

A table `federated_data(client_id BLOB NOT NULL PRIMARY KEY, data BLOB NOT NULL,
num_examples INTEGER NOT NULL)`; `data` is zlib of msgpack of a dict of arrays.
An array of numbers is msgpack's extension type 1, itself msgpack of (shape,
name of the dtype, bytes in C order); one of byte strings is type 4, msgpack of
(shape, the strings in a row).
"""

import contextlib
import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from fedjax_sim.core import files
from fedjax_sim.data import mapped
from fedjax_sim.data.federated import FederatedData

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
    ValueError: there is no such file, it is of another layout, `fields` name
      none of its arrays, or a client is empty.
  """
  path = Path(path)
  if not path.is_file():
    raise ValueError(f'path must be an SQLite file, there is none at '
                     f'{str(path)!r}.')
  if transform is not None and (folder is None or fields is not None):
    raise ValueError('transform takes the place of fields and needs a folder '
                     'for what it makes.')
  folder = Path(folder) if folder is not None else _cached(path, fields)
  if folder.exists():
    return mapped.open_mapped(folder)
  take = transform or _renaming(path, fields)
  return mapped.write_mapped(
      folder, ((name.decode(), take(examples))
               for name, examples in iterate_sqlite(path)))


def iterate_sqlite(path: Path | str) -> Iterator[tuple[bytes, Examples]]:
  """(client id, arrays) of each client, one in memory at a time.

  Raises:
    ValueError: the file is of another layout.
  """
  uri = f'{Path(path).resolve().as_uri()}?mode=ro'
  try:
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
      for client_id, data, _ in connection.execute(
          'SELECT client_id, data, num_examples FROM federated_data '
          'ORDER BY rowid'):
        yield _as_bytes(client_id), _unpack(data)
  except (sqlite3.Error, zlib.error, msgpack.exceptions.UnpackException,
          TypeError) as error:
    raise ValueError(
        f'{str(path)!r} is not of the federated_data layout: {error}.'
    ) from error


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
  with files.replacing(path) as file:
    with contextlib.closing(sqlite3.connect(file.name)) as connection:
      connection.execute(_TABLE)
      try:
        connection.executemany(
            'INSERT INTO federated_data VALUES (?, ?, ?)',
            ((_as_bytes(client_id), _pack(client_id, examples),
              _size(client_id, examples)) for client_id, examples in clients))
      except sqlite3.IntegrityError as error:
        raise ValueError(f'client ids must be distinct: {error}.') from error
      connection.commit()


def _cached(path: Path, fields) -> Path:
  status = path.stat()
  parts = (str(path.resolve()), status.st_size, status.st_mtime_ns,
           sorted((fields or {}).items()))
  name = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
  return files.cache_folder() / 'federations' / f'{path.stem}-{name}'


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
  sizes = {name: len(leaf) for name, leaf in examples.items()}
  if len(set(sizes.values())) != 1:
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
    return msgpack.ExtType(_NUMBERS, msgpack.packb(
        (x.shape, x.dtype.name, x.tobytes())))
  return zlib.compress(msgpack.packb(examples, default=pack))


def _unpack(data: bytes) -> Examples:
  def unpack(code, content):
    if code == _NUMBERS:
      shape, dtype, values = msgpack.unpackb(content)
      return np.frombuffer(values, np.dtype(dtype)).reshape(shape)
    if code == _STRINGS:
      shape, values = msgpack.unpackb(content, raw=True)
      return np.array(values, object).reshape(shape)
    raise TypeError(f'extension type {code}')
  return msgpack.unpackb(zlib.decompress(data), ext_hook=unpack)

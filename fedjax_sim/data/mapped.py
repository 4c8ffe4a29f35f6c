"""Federations larger than memory: examples in files that are mapped, not read.

A folder holds `federation.json` (dtypes and shapes), for each leaf of the
examples one `.bin` of all clients' rows, `offsets.npy` and `client_ids.npy`.
What is opened is a `FederatedData` whose leaves are `numpy.memmap`s: the
operating system reads the rows that are used, when they are used.

Leaf `examples['x']['image']` is the file `x.image.bin`. Names become names of
files, so `core.file_names` has to accept them, when a folder is written and
when one is opened: neither touches a file outside of it.
"""

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from fedjax_sim.core import file_names
from fedjax_sim.data import federated
from fedjax_sim.data.examples import as_examples
from fedjax_sim.data.federated import FederatedData

_META = 'federation.json'
_FORMAT = 1
_LARGEST_META = 2 ** 20  # Bytes; it has a line or two for each leaf.

# A nested dict of leaves, keyed by the path of each.
Flat = dict[tuple[str, ...], np.ndarray]


def write_mapped(
    folder: Path | str, clients: Iterable[tuple[Any, Mapping[str, Any]]]
) -> FederatedData:
  """Writes clients one by one, whatever their number, and opens the result.

  Memory holds one client at a time, and all clients' names and sizes.

  Args:
    folder: must not exist yet; appears once it is complete.
    clients: pairs (client id, examples), or a dict of these. Examples are what
      `from_clients` takes of a client, as dicts whose values are arrays [n,
      ...] or again such dicts; n >= 1, alike in names, dtypes and trailing
      shapes. 64-bit numbers are narrowed to 32.

  Raises:
    ValueError: the folder exists; there are no clients; or a client, which is
      named, is empty, is not like the first, holds numbers that are not finite,
      or has an array whose name can't be that of a file.
  """
  folder = file_names.as_path('folder', folder)
  if folder.exists():
    raise ValueError(f'folder must not exist yet, {str(folder)!r} does.')
  folder.parent.mkdir(parents=True, exist_ok=True)
  part = folder.with_name(f'.{folder.name}.{os.getpid()}.part')
  part.mkdir()
  try:
    _write(part, clients)
    os.replace(part, folder)
  finally:
    shutil.rmtree(part, ignore_errors=True)
  return open_mapped(folder)


def open_mapped(folder: Path | str) -> FederatedData:
  """Opens a folder that `write_mapped` wrote; reads names and sizes only.

  Raises:
    ValueError: there is none, or its files don't fit each other.
  """
  folder = file_names.as_path('folder', folder)
  leaves = _read_meta(folder)
  offsets = _load(folder / 'offsets.npy', 'iu')
  names = _load(folder / 'client_ids.npy', 'S')
  _check_index(folder, offsets, names)
  flat = {path: _open_leaf(folder, path, leaf, int(offsets[-1]))
          for path, leaf in leaves}
  try:
    client_ids = [name.decode() for name in names.tolist()]
  except UnicodeDecodeError as error:
    raise ValueError(
        f'{folder / "client_ids.npy"} must hold UTF-8: {error}.') from error
  return FederatedData(_nested(flat), offsets.astype(np.int32), client_ids)


def is_mapped(data: FederatedData) -> bool:
  """Whether any of a federation's leaves is mapped."""
  return any(isinstance(x, np.memmap) for x in jax.tree.leaves(data.examples))


def _read_meta(folder: Path) -> list[tuple[tuple[str, ...], dict]]:
  """[(path of a leaf, its dtype and shape)], checked."""
  file = folder / _META
  try:
    if file.stat().st_size > _LARGEST_META:
      raise ValueError(f'it has more than {_LARGEST_META} bytes')
    meta = json.loads(file.read_text())
    leaves, form = meta['leaves'], meta['format']
    if form == _FORMAT:
      found = list(_leaves_of(leaves))
      return _checked_leaves(found)
  except (OSError, ValueError, KeyError, TypeError, AttributeError,
          RecursionError) as error:
    raise ValueError(
        f'{str(folder)!r} is no folder of a mapped federation: {error!r}.'
    ) from error
  raise ValueError(f'{str(folder)!r} is of format {form}, not {_FORMAT}.')


def _leaves_of(node: dict, path=()) -> Iterator[tuple[tuple[str, ...], dict]]:
  """A leaf is what has the text of a dtype; else a node has further ones."""
  for name, value in node.items():
    if isinstance(value['dtype'] if 'dtype' in value else None, str):
      yield (*path, name), value
    else:
      yield from _leaves_of(value, (*path, name))


def _checked_leaves(leaves: list) -> list:
  if not leaves:
    raise ValueError('it names no arrays')
  file_names.distinct_file_names(
      'the name of an array', (_stem(path) for path, _ in leaves))
  for path, leaf in leaves:
    if not federated.is_numeric(np.dtype(leaf['dtype'])):
      raise ValueError(f'{_stem(path)} is of dtype {leaf["dtype"]!r}')
    shape = leaf['shape']
    if not isinstance(shape, list) or not all(
        type(size) is int and size >= 0 for size in shape):
      raise ValueError(f'{_stem(path)} is of shape {shape!r}')
  return leaves


def _check_index(folder: Path, offsets: np.ndarray, names: np.ndarray) -> None:
  """ValueError unless offsets and names are those of some clients."""
  if (len(offsets) < 2 or offsets[0] != 0
      or (np.diff(offsets.astype(np.int64)) < 1).any()
      or offsets[-1] > np.iinfo(np.int32).max):
    raise ValueError(f'{folder / "offsets.npy"} must rise from 0, got '
                     f'{offsets[:5].tolist()} and so on.')
  if len(names) != len(offsets) - 1:
    raise ValueError(
        f'{folder / "client_ids.npy"} must name the {len(offsets) - 1} clients '
        f'of offsets.npy, it has {len(names)} names.')


def _open_leaf(
    folder: Path, path: tuple[str, ...], leaf: dict, size: int
) -> np.ndarray:
  dtype, shape = np.dtype(leaf['dtype']), (size, *leaf['shape'])
  file = folder / f'{_stem(path)}.bin'
  expected = math.prod(shape) * dtype.itemsize
  if not file.is_file() or file.stat().st_size != expected:
    raise ValueError(f'{file} must have {expected} bytes; it is missing or '
                     'has another size.')
  if not expected:
    return np.zeros(shape, dtype)  # Nothing can't be mapped.
  return np.memmap(file, dtype, 'r', shape=shape)


def _load(file: Path, kinds: str) -> np.ndarray:
  """A 1-D array of an .npy, whose header is compared with the file's size."""
  try:
    # Mapped first: what a header claims is not allocated before it is there.
    array = np.array(np.load(file, mmap_mode='r'))
  except (OSError, ValueError, TypeError, SyntaxError, OverflowError) as error:
    raise ValueError(f'{file} is damaged: {error}') from error
  if array.ndim != 1 or array.dtype.kind not in kinds:
    raise ValueError(f'{file} is damaged: it holds {array.dtype} of shape '
                     f'{list(array.shape)}.')
  return array


def _write(folder: Path, clients) -> None:
  files, first, sizes, names = {}, None, [], []
  try:
    for client_id, given in _pairs(clients):
      flat = _flat_client(client_id, given)
      if first is None:
        first = {path: leaf[:0] for path, leaf in flat.items()}
        files = _open_files(folder, first)
      sizes.append(federated.check_client(
          client_id, _nested(flat), _nested(first), allow_empty=False))
      names.append(_stored_name(client_id))
      for path, leaf in flat.items():
        files[path].write(np.ascontiguousarray(leaf).tobytes())
  finally:
    for file in files.values():
      file.close()
  if not sizes:
    raise ValueError('clients must hold at least one client, got none.')
  if len(set(names)) != len(names):
    raise ValueError(f'client ids must be distinct; of {len(names)} '
                     f'{len(names) - len(set(names))} repeat another.')
  np.save(folder / 'offsets.npy', federated.offsets_of(np.array(sizes)))
  np.save(folder / 'client_ids.npy', np.array(names))
  (folder / _META).write_text(json.dumps({'format': _FORMAT, 'leaves': _nested({
      path: {'dtype': leaf.dtype.name, 'shape': leaf.shape[1:]}
      for path, leaf in first.items()})}, indent=1))


def _pairs(clients: Any) -> Iterator[tuple[Any, Any]]:
  """The clients, each a pair; or ValueError."""
  clients = clients.items() if isinstance(clients, Mapping) else clients
  try:
    clients = iter(clients)
  except TypeError as error:
    raise ValueError('clients must come one by one, as (client id, examples): '
                     f'{error}.') from error
  for client in clients:
    if not isinstance(client, tuple | list) or len(client) != 2:
      raise ValueError('clients must be pairs (client id, examples), got a '
                       f'{type(client).__name__}.')
    yield tuple(client)


def _stored_name(client_id: Any) -> bytes:
  name = federated.client_name(client_id).encode()
  if name.endswith(b'\0'):  # NumPy would drop it.
    raise ValueError(f'client ids must not end with NUL, got {client_id!r}.')
  return name


def _flat_client(client_id: Any, given: Any) -> Flat:
  """A client's leaves by path, narrowed and checked."""
  label = f'client {client_id}: '
  examples = as_examples(given, f'{label}examples')
  if not isinstance(examples, dict):
    raise ValueError(f'{label}examples must be a dict of arrays, got '
                     f'{type(given).__name__}.')
  federated.num_examples(examples, f'{label}examples')
  flat = {}
  for path, leaf in jax.tree.leaves_with_path(examples):
    if not all(isinstance(key, jax.tree_util.DictKey) for key in path):
      raise ValueError(f'{label}examples must be arrays in dicts, got '
                       f'another container at {jax.tree_util.keystr(path)}.')
    name = f'{label}examples{jax.tree_util.keystr(path)}'
    leaf = federated.narrow(name, leaf)
    federated.check_finite(name, leaf)
    flat[tuple(key.key for key in path)] = leaf
  return flat


def _open_files(folder: Path, leaves: Flat) -> dict[tuple, BinaryIO]:
  file_names.distinct_file_names('the name of an array', map(_stem, leaves))
  return {path: open(folder / f'{_stem(path)}.bin', 'wb') for path in leaves}


def _stem(path: tuple[str, ...]) -> str:
  """The name of a leaf's file, without the suffix."""
  for name in path:
    file_names.file_name('the name of an array', name)
  return '.'.join(path)


def _nested(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
  tree = {}
  for path, leaf in flat.items():
    node = tree
    for name in path[:-1]:
      node = node.setdefault(name, {})
    node[path[-1]] = leaf
  return tree

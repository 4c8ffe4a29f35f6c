"""Federations larger than memory: examples in files that are mapped, not read.

A folder holds `federation.json` (dtypes and shapes), for each leaf of the
examples one `.bin` of all clients' rows, `offsets.npy` and `client_ids.npy`.
What is opened is a `FederatedData` whose leaves are `numpy.memmap`s: the
operating system reads the rows that are used, when they are used.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedjax_sim.data import federated
from fedjax_sim.data.federated import FederatedData

_META = 'federation.json'
_FORMAT = 1


def write_mapped(
    folder: Path | str, clients: Iterable[tuple[Any, dict[str, np.ndarray]]]
) -> FederatedData:
  """Writes clients one by one, whatever their number, and opens the result.

  Memory holds one client at a time, and all clients' names and sizes.

  Args:
    folder: must not exist yet; appears once it is complete.
    clients: (client id, examples): a dict of arrays [n, ...], n >= 1, alike in
      names, dtypes and trailing shapes. 64-bit numbers are narrowed to 32.

  Raises:
    ValueError: the folder exists; there are no clients; or a client, which is
      named, is empty or not like the first.
  """
  folder = Path(folder)
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
  folder = Path(folder)
  try:
    meta = json.loads((folder / _META).read_text())
    leaves, form = meta['leaves'], meta['format']
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(
        f'{str(folder)!r} is no folder of a mapped federation: {error!r}.'
    ) from error
  if form != _FORMAT:
    raise ValueError(f'{str(folder)!r} is of format {form}, not {_FORMAT}.')
  offsets = _load(folder / 'offsets.npy')
  names = _load(folder / 'client_ids.npy')
  examples = {}
  for name, leaf in leaves.items():
    dtype, shape = np.dtype(leaf['dtype']), (int(offsets[-1]), *leaf['shape'])
    file = folder / f'{name}.bin'
    expected = int(np.prod(shape)) * dtype.itemsize
    if not file.exists() or file.stat().st_size != expected:
      raise ValueError(f'{file} must have {expected} bytes; it is missing or '
                       'has another size.')
    examples[name] = np.memmap(file, dtype, 'r', shape=shape)
  return FederatedData(
      examples, offsets, [name.decode() for name in names.tolist()])


def _load(file: Path) -> np.ndarray:
  try:
    return np.load(file)
  except (OSError, ValueError) as error:
    raise ValueError(f'{file} is damaged: {error}') from error


def is_mapped(data: FederatedData) -> bool:
  """Whether any of a federation's leaves is mapped."""
  return any(isinstance(x, np.memmap) for x in jax.tree.leaves(data.examples))


def _write(folder: Path, clients) -> None:
  files, first, sizes, names = {}, None, [], []
  try:
    for client_id, examples in clients:
      examples = {name: federated.narrow(f'client {client_id}: {name}', leaf)
                  for name, leaf in examples.items()}
      first = first or examples
      sizes.append(federated.check_client(
          client_id, examples, first, allow_empty=False))
      names.append(str(client_id).encode())
      for name, leaf in examples.items():
        if name not in files:
          files[name] = open(folder / f'{name}.bin', 'wb')
        files[name].write(np.ascontiguousarray(leaf).data)
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
  (folder / _META).write_text(json.dumps({'format': _FORMAT, 'leaves': {
      name: {'dtype': leaf.dtype.name, 'shape': leaf.shape[1:]}
      for name, leaf in first.items()}}, indent=1))

"""Federated data: the examples of all clients, each once, grouped by client.

This is host code: NumPy arrays, and of JAX only `jax.tree`, so nothing here
starts a backend. The engine puts the arrays on the device.

Letters: N clients, E examples in all.
"""

import collections
import datetime
import numbers
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.core.types import PyTree
from fedjax_sim.data import partition as partition_lib
from fedjax_sim.data.examples import as_examples, as_list, is_missing
from fedjax_sim.data.partition.indices import as_partition

# JAX computes in 32 bits unless told otherwise, and would narrow these anyway.
_NARROWER = {np.dtype(wide): np.dtype(narrow) for wide, narrow in (
    ('int64', 'int32'), ('uint64', 'uint32'), ('float64', 'float32'),
    ('complex128', 'complex64'))}


# What can name a client.
_NAMES = (str, bytes, numbers.Number, np.generic, np.ndarray, datetime.date,
          uuid.UUID)
# Examples whose numbers are looked at in one go.
_ROWS_AT_ONCE = 65_536


class FederatedData(NamedTuple):
  """A federation's examples. Make it with one of the functions below.

  Attributes:
    examples: PyTree of NumPy arrays [E, ...], usually `{'x': ..., 'y': ...}`,
      in storage dtype (uint8 pixels stay uint8), of at most 32 bits a number.
    offsets: int32 [N + 1]; client i has examples offsets[i] to offsets[i + 1].
    client_ids: N distinct names.
  """

  examples: PyTree
  offsets: np.ndarray
  client_ids: list[str]

  def __repr__(self) -> str:
    """In a line, however many clients there are."""
    leaves = jax.tree.map(
        lambda x: f'{x.dtype}{list(x.shape[1:])}', self.examples)
    return (f'FederatedData({self.num_clients:,} clients, '
            f'{self.num_examples:,} examples of {leaves})')

  @property
  def num_clients(self) -> int:
    """N."""
    return len(self.offsets) - 1

  @property
  def num_examples(self) -> int:
    """E."""
    return int(self.offsets[-1])

  @property
  def sizes(self) -> np.ndarray:
    """int32 [N]: the number of examples of each client."""
    return np.diff(self.offsets)

  @property
  def max_size(self) -> int:
    """The number of examples of the largest client."""
    return int(self.sizes.max())

  def client(self, i: int) -> PyTree:
    """Client i's examples: views, [sizes[i], ...].

    Raises:
      ValueError: i is not in [0, N).
    """
    if not 0 <= i < self.num_clients:
      raise ValueError(f'client must lie in [0, {self.num_clients}), got {i}.')
    begin, end = self.offsets[i:i + 2]
    return jax.tree.map(lambda leaf: leaf[begin:end], self.examples)


def federate(
    examples: PyTree,
    partition: Sequence[np.ndarray],
    client_ids: Sequence[Any] | None = None,
    *,
    allow_empty: bool = False,
) -> FederatedData:
  """Groups examples by client, gathering each once.

  Args:
    examples: dict of arrays [E, ...], usually of `x` and `y`, a pair (x, y),
      or another PyTree; see `examples.as_examples` for what is an array.
    partition: N arrays or lists of indices below E; examples in none are left
      out.
    client_ids: N distinct names, by default '0' to 'N-1'.
    allow_empty: whether clients may have no examples (test parts may).

  Returns:
    A federation whose client i has its examples in the order of partition[i].
    64-bit leaves are narrowed to 32 bits.

  Raises:
    ValueError: leaves differ in length or can't go on a device, an integer
      doesn't fit into 32 bits, a number is not finite (field, client and
      example are named), the partition is not one (`partition.check`), or the
      client ids are not N distinct names.
  """
  examples = as_examples(examples)
  partition = as_partition(partition)
  partition_lib.check(
      partition, num_examples(examples), allow_empty=allow_empty)
  order = np.concatenate(partition, dtype=np.int64)
  return _build(jax.tree.map(lambda leaf: leaf[order], examples),
                partition_lib.sizes_of(partition), client_ids)


def from_clients(
    clients: Mapping[Any, PyTree] | Sequence[PyTree],
    client_ids: Sequence[Any] | None = None,
    *,
    allow_empty: bool = False,
) -> FederatedData:
  """Joins the examples of clients that come one by one.

  Args:
    clients: client id -> examples, or N of them in a sequence. Examples are
      dicts of arrays [n_i, ...], pairs (x, y) or other PyTrees, alike in
      structure, dtypes and trailing shapes; see `examples.as_examples`.
    client_ids: N distinct names, of a sequence by default '0' to 'N-1'; not
      together with a dict.
    allow_empty: whether a client may have no examples.

  Raises:
    ValueError: naming the client: it is empty, its leaves differ in length, or
      it is not like the first one. Else as in `federate`.
  """
  if isinstance(clients, Mapping):
    if client_ids is not None:
      raise ValueError('client_ids must not be given beside a dict of clients, '
                       'whose keys they are.')
    client_ids, clients = list(clients), list(clients.values())
  if not isinstance(clients, list | tuple):
    raise ValueError('clients must be a dict, client id -> examples, or a list '
                     f'of examples, got a {type(clients).__name__}.')
  checks.positive_int('num_clients', len(clients))
  names = range(len(clients)) if client_ids is None else client_ids
  _names(client_ids, np.zeros(len(clients)))  # Before what names are used for.
  clients = [as_examples(client, f'client {name}: examples')
             for name, client in zip(names, clients, strict=True)]
  sizes = np.array([
      check_client(name, client, clients[0], allow_empty)
      for name, client in zip(names, clients, strict=True)])
  return _build(jax.tree.map(lambda *leaves: np.concatenate(leaves), *clients),
                sizes, client_ids)


def single(examples: PyTree) -> FederatedData:
  """One client that holds everything, in order; for centralized training.

  Leaves that need no narrowing are not copied.

  Args:
    examples: as in `federate`, E >= 1.

  Raises:
    ValueError: as in `federate`.
  """
  examples = as_examples(examples)
  size = checks.positive_int('num_examples', num_examples(examples))
  return _build(examples, np.array([size]), None)


def num_examples(examples: PyTree, name: str = 'examples') -> int:
  """E, the leading dimension that all leaves share.

  Args:
    examples: PyTree of NumPy arrays [E, ...].
    name: what messages call it.

  Raises:
    ValueError: no leaf, one without axes, or two that differ in length.
  """
  leaves = jax.tree.leaves_with_path(examples)
  if not leaves:
    raise ValueError(f'{name} must hold at least one array, got {examples!r}.')
  for path, leaf in leaves:
    label = name + jax.tree_util.keystr(path)
    if not leaf.ndim:
      raise ValueError(
          f'{label} must have a leading axis of examples, got a '
          f'{leaf.dtype} scalar.')
    if len(leaf) != len(leaves[0][1]):
      first = name + jax.tree_util.keystr(leaves[0][0])
      raise ValueError(
          f'{first} and {label} must have one entry per example, got '
          f'{len(leaves[0][1])} and {len(leaf)}.')
  return len(leaves[0][1])


def _build(
    examples: PyTree, sizes: np.ndarray, client_ids: Sequence[Any] | None
) -> FederatedData:
  """From grouped examples and sizes [N]; narrows, and checks what is left."""
  data = FederatedData(_map_with_name(narrow, examples), offsets_of(sizes),
                       _names(client_ids, sizes))
  check_all_finite(data.examples, 'examples', data)
  return data


def check_all_finite(
    examples: PyTree, name: str, data: FederatedData | None = None
) -> None:
  """ValueError if a number is not finite, naming where it is.

  Args:
    examples: PyTree of NumPy arrays [E, ...].
    name: what messages call it.
    data: whose clients hold the examples, to name the client; or None.
  """
  for path, leaf in jax.tree.leaves_with_path(examples):
    check_finite(name + jax.tree_util.keystr(path), leaf, data)


def check_finite(
    name: str, leaf: np.ndarray, data: FederatedData | None = None
) -> None:
  """`check_all_finite` of one array [E, ...]."""
  if not jax.dtypes.issubdtype(leaf.dtype, np.inexact):
    return
  bad, total = [], 0
  for start in range(0, len(leaf), _ROWS_AT_ONCE):  # Little memory beside it.
    rows = leaf[start:start + _ROWS_AT_ONCE]
    finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
    if not finite.all():
      total += int(np.count_nonzero(~finite))
      bad = bad or [start + int(np.argmin(finite))]
  if not bad:
    return
  row = np.ravel(leaf[bad[0]])
  value = row[~np.isfinite(row)][0]
  raise ValueError(
      f'{name} must be finite {leaf.dtype} numbers, {where(bad[0], data)} '
      f'holds {value}; so do {total:,} of {len(leaf):,} examples. Leave these '
      'out, or replace the values.')


def where(example: int, data: FederatedData | None = None) -> str:
  """What messages call an example, with its client if it is known whose."""
  if data is None:
    return f'example {example}'
  client = int(np.searchsorted(data.offsets, example, side='right')) - 1
  return (f'example {example - data.offsets[client]} of client '
          f'{data.client_ids[client]!r}')


def offsets_of(sizes: np.ndarray) -> np.ndarray:
  """int32 [N + 1], from sizes [N]: where each client's examples begin.

  Raises:
    ValueError: there are more examples than int32 can number.
  """
  if sizes.sum() > np.iinfo(np.int32).max:
    raise ValueError(
        f'there may be at most 2**31 - 1 examples, got {sizes.sum()}.')
  offsets = np.zeros(len(sizes) + 1, np.int32)
  np.cumsum(sizes, out=offsets[1:])
  return offsets


def _names(client_ids: Sequence[Any] | None, sizes: np.ndarray) -> list[str]:
  if client_ids is None:
    return [str(i) for i in range(len(sizes))]
  names = [client_name(client)
           for client in as_list('client_ids', client_ids)]
  if len(names) != len(sizes):
    raise ValueError(
        f'client_ids must name each of the {len(sizes)} clients, got '
        f'{len(names)} names.')
  if len(set(names)) != len(names):
    (name, uses), = collections.Counter(names).most_common(1)
    raise ValueError(
        f'client_ids must be distinct, got {name!r} {uses} times.')
  return names


def client_name(client_id: Any) -> str:
  """A client's name as text; ValueError if it stands for a missing one."""
  if is_missing(client_id):
    raise ValueError(f'client_ids must name every client, got {client_id!r}: '
                     'leave out examples whose client is not known.')
  parts = client_id if isinstance(client_id, tuple) else (client_id,)
  if not all(isinstance(part, _NAMES) and np.ndim(part) == 0
             for part in parts):
    raise ValueError('client_ids must be text or numbers, got a '
                     f'{type(client_id).__name__}.')
  if not isinstance(client_id, bytes):
    return str(client_id)
  try:
    return client_id.decode()
  except UnicodeDecodeError as error:
    raise ValueError(
        f'client_ids must be UTF-8, got {client_id!r}: {error}.') from error


def is_numeric(dtype: np.dtype) -> bool:
  """Whether arrays of a dtype can go on a device: numbers or bools."""
  # By issubdtype, so that bfloat16, which NumPy calls void, is a number.
  return any(jax.dtypes.issubdtype(dtype, kind)
             for kind in (np.number, np.bool_))


def narrow(name: str, leaf: np.ndarray) -> np.ndarray:
  """`leaf` in a dtype that JAX keeps, in this machine's byte order."""
  if not is_numeric(leaf.dtype):
    raise ValueError(
        f'{name} must hold numbers or bools, got dtype {leaf.dtype}'
        f'{_first_of(leaf)}.')
  native = leaf.dtype.newbyteorder('=')
  dtype = _NARROWER.get(native)
  if dtype is None:
    return leaf.astype(native, copy=False)
  if dtype.kind in 'iu' and leaf.size:
    _check_range(name, leaf, np.iinfo(dtype))
  with np.errstate(over='ignore'):  # What becomes infinite is told later.
    return leaf.astype(dtype)


def _first_of(leaf: np.ndarray) -> str:
  """The first entry, where that helps: ', such as ...'."""
  return f', such as {leaf.flat[0]!r:.60}' if leaf.size else ''


def _check_range(name: str, leaf: np.ndarray, valid: np.iinfo) -> None:
  for value in (leaf.min(), leaf.max()):
    if not valid.min <= value <= valid.max:
      raise ValueError(
          f'{name} is stored as {valid.dtype}, in [{valid.min}, {valid.max}]; '
          f'it holds {value}.')


def _map_with_name(
    function: Callable[[str, np.ndarray], np.ndarray], examples: PyTree
) -> PyTree:
  return jax.tree.map_with_path(
      lambda path, leaf: function(
          'examples' + jax.tree_util.keystr(path), leaf), examples)


def check_client(
    i: Any, client: PyTree, first: PyTree, allow_empty: bool
) -> int:
  """The number of examples of a client (number or id) like the first one."""
  size = num_examples(client, f'client {i}: examples')
  if not size and not allow_empty:
    raise ValueError(f'client {i} is empty.')
  if jax.tree.structure(client) != jax.tree.structure(first):
    raise ValueError(
        f'client {i} must have the structure of the first client, '
        f'{jax.tree.structure(first)}, got {jax.tree.structure(client)}.')
  for (path, a), b in zip(
      jax.tree.leaves_with_path(client), jax.tree.leaves(first), strict=True):
    if (a.dtype, a.shape[1:]) != (b.dtype, b.shape[1:]):
      raise ValueError(
          f'client {i}: examples{jax.tree_util.keystr(path)} must be like '
          f'the first client\'s, {b.dtype} {list(b.shape[1:])} an example, got '
          f'{a.dtype} {list(a.shape[1:])}.')
  return size

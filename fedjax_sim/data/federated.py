"""Federated data: the examples of all clients, each once, grouped by client.

This is host code: NumPy arrays, and of JAX only `jax.tree`, so nothing here
starts a backend. The engine puts the arrays on the device.

Letters: N clients, E examples in all.
"""

import collections
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.core.types import PyTree
from fedjax_sim.data import partition as partition_lib

# JAX computes in 32 bits unless told otherwise, and would narrow these anyway.
_NARROWER = {np.dtype(wide): np.dtype(narrow) for wide, narrow in (
    ('int64', 'int32'), ('uint64', 'uint32'), ('float64', 'float32'),
    ('complex128', 'complex64'))}


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
    examples: PyTree of arrays [E, ...].
    partition: N int arrays of indices below E; examples in none are left out.
    client_ids: N distinct names, by default '0' to 'N-1'.
    allow_empty: whether clients may have no examples (test parts may).

  Returns:
    A federation whose client i has its examples in the order of partition[i].
    64-bit leaves are narrowed to 32 bits.

  Raises:
    ValueError: leaves differ in length or can't go on a device, an integer
      doesn't fit into 32 bits, the partition is not one (`partition.check`),
      or the client ids are not N distinct names.
  """
  examples = jax.tree.map(np.asarray, examples)
  partition_lib.check(
      partition, num_examples(examples), allow_empty=allow_empty)
  order = np.concatenate(partition, dtype=np.int64)
  return _build(jax.tree.map(lambda leaf: leaf[order], examples),
                partition_lib.sizes_of(partition), client_ids)


def from_clients(
    clients: Sequence[PyTree],
    client_ids: Sequence[Any] | None = None,
    *,
    allow_empty: bool = False,
) -> FederatedData:
  """Joins the examples of clients that come one by one.

  Args:
    clients: N PyTrees of arrays [n_i, ...], alike in structure, dtypes and
      trailing shapes.
    client_ids: N distinct names, by default '0' to 'N-1'.
    allow_empty: whether a client may have no examples.

  Raises:
    ValueError: naming the client: it is empty, its leaves differ in length, or
      it is not like client 0. Else as in `federate`.
  """
  checks.positive_int('num_clients', len(clients))
  clients = [jax.tree.map(np.asarray, client) for client in clients]
  sizes = np.array([
      check_client(i, client, clients[0], allow_empty)
      for i, client in enumerate(clients)])
  return _build(jax.tree.map(lambda *leaves: np.concatenate(leaves), *clients),
                sizes, client_ids)


def single(examples: PyTree) -> FederatedData:
  """One client that holds everything, in order; for centralized training.

  Leaves that need no narrowing are not copied.

  Args:
    examples: PyTree of arrays [E, ...], E >= 1.

  Raises:
    ValueError: as in `federate`.
  """
  examples = jax.tree.map(np.asarray, examples)
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
  return FederatedData(_map_with_name(narrow, examples), offsets_of(sizes),
                       _names(client_ids, sizes))


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
  names = [str(client) for client in client_ids]
  if len(names) != len(sizes):
    raise ValueError(
        f'client_ids must name each of the {len(sizes)} clients, got '
        f'{len(names)} names.')
  if len(set(names)) != len(names):
    (name, uses), = collections.Counter(names).most_common(1)
    raise ValueError(
        f'client_ids must be distinct, got {name!r} {uses} times.')
  return names


def narrow(name: str, leaf: np.ndarray) -> np.ndarray:
  """`leaf` in a dtype that JAX keeps, or ValueError."""
  # By issubdtype, so that bfloat16, which NumPy calls void, is a number.
  numeric = any(jax.dtypes.issubdtype(leaf.dtype, kind)
                for kind in (np.number, np.bool_))
  if not numeric:
    raise ValueError(
        f'{name} must hold numbers or bools, got dtype {leaf.dtype}.')
  dtype = _NARROWER.get(leaf.dtype)
  if dtype is None:
    return leaf
  if dtype.kind in 'iu' and leaf.size:
    _check_range(name, leaf, np.iinfo(dtype))
  return leaf.astype(dtype)


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
    i: int, client: PyTree, first: PyTree, allow_empty: bool
) -> int:
  """The number of examples of a client that is like the first one."""
  size = num_examples(client, f'client {i}: examples')
  if not size and not allow_empty:
    raise ValueError(f'client {i} is empty.')
  if jax.tree.structure(client) != jax.tree.structure(first):
    raise ValueError(
        f'client {i} must have the structure of client 0, '
        f'{jax.tree.structure(first)}, got {jax.tree.structure(client)}.')
  for (path, a), b in zip(
      jax.tree.leaves_with_path(client), jax.tree.leaves(first), strict=True):
    if (a.dtype, a.shape[1:]) != (b.dtype, b.shape[1:]):
      raise ValueError(
          f'client {i}: examples{jax.tree_util.keystr(path)} must be like '
          f'client 0\'s, {b.dtype} {list(b.shape[1:])} an example, got '
          f'{a.dtype} {list(a.shape[1:])}.')
  return size

"""Whether a partition is one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.data.examples import as_list
from fedjax_sim.data.partition.labels import describe


def as_partition(partition: Any) -> list[np.ndarray]:
  """N index arrays of N arrays or lists of whole numbers.

  Raises:
    ValueError: it is no sequence of such, naming the client.
  """
  arrays = []
  for i, client in enumerate(as_list('partition', partition)):
    if not isinstance(client, np.ndarray):
      try:
        array = np.asarray(client)
      except Exception as error:  # Ragged, or no array of numbers.
        raise ValueError(f'partition: client {i} must be a 1-D integer array: '
                         f'{error}') from error
      client = array.astype(np.int64) if array.shape == (0,) else array
    _check_index_array(i, client)
    arrays.append(client)
  return arrays


def check(
    partition: Sequence[np.ndarray],
    num_examples: int,
    *,
    allow_empty: bool = False,
) -> None:
  """Raises ValueError unless this is a partition of (some of) the examples.

  Args:
    partition: N 1-D integer arrays.
    num_examples: E; indices must lie in [0, E).
    allow_empty: whether clients without examples are fine.

  Raises:
    ValueError: naming the client: no client at all, an array of another kind,
      an empty client, an index out of range, an index used twice.
  """
  checks.at_least('num_examples', num_examples, 0)
  checks.positive_int('num_clients', len(partition))
  for i, client in enumerate(partition):
    _check_index_array(i, client)
    if not allow_empty and not len(client):
      raise ValueError(f'partition: client {i} is empty.')
  indices = np.concatenate(partition, dtype=np.int64)
  owner = np.repeat(np.arange(len(partition)), sizes_of(partition))
  outside = np.flatnonzero((indices < 0) | (indices >= num_examples))
  if len(outside):
    raise ValueError(
        f'partition: client {owner[outside[0]]} has index '
        f'{indices[outside[0]]}, which is not in [0, {num_examples}).')
  _check_unique(indices, owner, num_examples)


def sizes_of(partition: Sequence[np.ndarray]) -> np.ndarray:
  """int64 [N]: the number of examples of each client."""
  return np.fromiter(map(len, partition), np.int64, len(partition))


def _check_index_array(i: int, client: Any) -> None:
  if not (isinstance(client, np.ndarray) and client.ndim == 1
          and client.dtype.kind in 'iu'):
    is_mask = isinstance(client, np.ndarray) and client.dtype == bool
    mend = ' np.flatnonzero(mask) gives the indices of a mask.' * is_mask
    raise ValueError(f'partition: client {i} must be a 1-D integer array, got '
                     f'{describe(client)}.{mend}')


def _check_unique(
    indices: np.ndarray, owner: np.ndarray, num_examples: int
) -> None:
  uses = np.bincount(indices, minlength=num_examples)
  if not len(uses) or uses.max() <= 1:
    return
  twice = int(np.argmax(uses > 1))
  first, second = owner[indices == twice][:2]
  where = (f'twice by client {first}' if first == second
           else f'by client {first} and by client {second}')
  raise ValueError(f'partition: example {twice} is used {where}.')

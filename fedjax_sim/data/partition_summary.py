"""Whether a partition is one, and what it looks like.

Letters: N clients, E examples in all, L distinct labels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.data.examples import as_list, is_missing


class Summary(NamedTuple):
  """What a partition looks like; `str` gives it in one line.

  Attributes:
    num_clients: N.
    num_examples: the number of examples that are used.
    min_size, mean_size, median_size, max_size: examples a client.
    label_entropy: bits; the mean over clients of the entropy of their labels.
      0 where each client has one label, log2(L) where all are equally
      frequent everywhere. None without labels.
    labels_per_client: the mean number of distinct labels; None without
      labels. Both means leave empty clients out.
  """

  num_clients: int
  num_examples: int
  min_size: int
  mean_size: float
  median_size: float
  max_size: int
  label_entropy: float | None = None
  labels_per_client: float | None = None

  def __str__(self) -> str:
    if self.min_size == self.max_size:
      sizes = f'{self.min_size:,} each'
    else:
      sizes = (f'{self.min_size:,} to {self.max_size:,} each (mean '
               f'{self.mean_size:,.1f}, median {self.median_size:,g})')
    line = (f'{self.num_clients:,} client{"s" * (self.num_clients != 1)}, '
            f'{self.num_examples:,} examples, {sizes}')
    if self.label_entropy is None:
      return line
    return (f'{line}; {self.labels_per_client:.1f} labels a client, entropy '
            f'{self.label_entropy:.2f} bits')


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


def summary(
    partition: Sequence[np.ndarray], labels: Any = None
) -> Summary:
  """Sizes, and with labels their diversity.

  Args:
    partition: N int arrays.
    labels: [E] or None.

  Raises:
    ValueError: no clients, or an index without a label.
  """
  partition = as_partition(partition)
  checks.positive_int('num_clients', len(partition))
  sizes = sizes_of(partition)
  entropy = distinct = None
  if labels is not None:
    labels = as_labels(labels)
    check(partition, len(labels), allow_empty=True)
    entropy, distinct = _label_diversity(partition, sizes, labels)
  return Summary(
      len(sizes), int(sizes.sum()), int(sizes.min()), float(sizes.mean()),
      float(np.median(sizes)), int(sizes.max()), entropy, distinct)


def sizes_of(partition: Sequence[np.ndarray]) -> np.ndarray:
  """int64 [N]: the number of examples of each client."""
  return np.fromiter(map(len, partition), np.int64, len(partition))


def label_counts(
    partition: Sequence[np.ndarray], labels: Any
) -> tuple[np.ndarray, np.ndarray]:
  """How many examples of each label each client has.

  Args:
    partition: N int arrays.
    labels: [E].

  Returns:
    (counts, values): int64 [N, L], and the L distinct labels of all E
    examples, sorted. The counts are dense: mind N * L.

  Raises:
    ValueError: an index is out of range or used twice.
  """
  labels = as_labels(labels)
  check(partition, len(labels), allow_empty=True)
  values, label_of = np.unique(labels, return_inverse=True)
  rows = [np.bincount(label_of[client], minlength=len(values))
          for client in partition]
  return np.stack(rows), values


def as_labels(labels: Any, name: str = 'labels') -> np.ndarray:
  """`labels` as a non-empty 1-D array of integers, bools or strings.

  Raises:
    ValueError: they are something else, or one is missing (None or NaN), which
      NumPy would turn into text: then there would be a client 'nan'.
  """
  _check_none_missing(labels, name)
  try:
    array = np.asarray(labels)
  except Exception as error:  # Ragged, or no array of numbers.
    raise ValueError(f'{name} must be a 1-D array: {error}') from error
  if array.ndim == 1 and array.dtype.kind == 'O':
    array = np.asarray(array.tolist())  # Strings, as pandas holds them.
  if array.ndim != 1 or not array.size or array.dtype.kind not in 'biuUS':
    raise ValueError(
        f'{name} must be a 1-D array, not empty, of whole numbers or strings, '
        f'got {describe(array)}.')
  return array


def _check_none_missing(labels: Any, name: str) -> None:
  if isinstance(labels, np.ndarray) and labels.dtype.kind not in 'Of':
    # What NumPy makes of a list of strings with NaN in it.
    if labels.dtype == np.dtype('U32') and (labels == 'nan').any():
      raise ValueError(
          f"{name} must have a value for every example; example "
          f"{int(np.argmax(labels == 'nan'))} has 'nan', NumPy's text for a "
          'missing one: leave such examples out, or rename the client.')
    return
  if not hasattr(labels, '__len__') or not np.ndim(labels):
    return  # Said by the caller.
  missing = [i for i, value in enumerate(labels) if is_missing(value)]
  if missing:
    raise ValueError(
        f'{name} must have a value for every example; example {missing[0]} has '
        f'none, {len(missing):,} of {len(labels):,} have none: leave these '
        'examples out.')


def describe(value: Any) -> str:
  if isinstance(value, np.ndarray):
    return f'{value.dtype} {list(value.shape)}'
  return f'a {type(value).__name__}'


def _check_index_array(i: int, client: Any) -> None:
  if not (isinstance(client, np.ndarray) and client.ndim == 1
          and client.dtype.kind in 'iu'):
    raise ValueError(f'partition: client {i} must be a 1-D integer array, got '
                     f'{describe(client)}.')


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


def _label_diversity(
    partition: Sequence[np.ndarray], sizes: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
  """(mean entropy in bits, mean number of labels) over non-empty clients."""
  values, label_of = np.unique(labels, return_inverse=True)
  owner = np.repeat(np.arange(len(sizes)), sizes)
  pairs = owner * len(values) + label_of[np.concatenate(partition)]
  # Only the pairs that occur: N * L may be far more than E.
  pair, count = np.unique(pairs, return_counts=True)
  share = count / sizes[pair // len(values)]
  clients = max(np.count_nonzero(sizes), 1)
  bits = float((share * np.log2(1 / share)).sum())
  return bits / clients, len(pair) / clients

"""What a partition looks like.

Letters: N clients, E examples in all, L distinct labels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.data.partition.indices import as_partition, check, sizes_of
from fedjax_sim.data.partition.labels import as_labels


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

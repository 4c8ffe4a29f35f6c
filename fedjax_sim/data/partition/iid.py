"""Shuffled, and dealt out evenly."""

from typing import Any

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.data.partition.dealing import Partition, check_enough, rng_of
from fedjax_sim.data.partition.labels import as_labels


def iid(
    labels_or_num_examples: Any, num_clients: int, *, seed: int
) -> Partition:
  """Shuffles the examples and deals them out evenly.

  Args:
    labels_or_num_examples: [E] labels, of which only the length counts, or E.
    num_clients: N, at most E.
    seed: whole number from 0 to 2**64 - 1.

  Returns:
    N arrays that use every example once; their sizes differ by at most one.

  Raises:
    ValueError: an argument is out of range.
  """
  if np.ndim(labels_or_num_examples):
    num_examples = len(as_labels(labels_or_num_examples))
  else:
    num_examples = checks.positive_int('num_examples', labels_or_num_examples)
  check_enough(num_examples, num_clients, 1)
  order = rng_of(seed, 'iid').permutation(num_examples)
  return np.array_split(order, num_clients)

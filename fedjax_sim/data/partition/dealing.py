"""What ways to deal examples to clients have in common.

Letters: N clients, E examples in all, L distinct labels.
"""

import math
import numbers
import zlib
from typing import Any

import numpy as np

from fedjax_sim.core import checks, random

Partition = list[np.ndarray]


def rng_of(seed: int, purpose: str) -> np.random.Generator:
  """A stream for one purpose: `split` must not repeat what `iid` drew."""
  return np.random.default_rng(
      random.words(seed, zlib.crc32(purpose.encode())))


def check_enough(num_examples: int, num_clients: int, min_size: int) -> None:
  """Raises ValueError unless each of N clients can have `min_size` examples."""
  checks.positive_int('num_clients', num_clients)
  if num_clients * min_size > num_examples:
    raise ValueError(
        f'num_clients={num_clients} with at least {min_size} each need '
        f'{num_clients * min_size} examples; there are {num_examples}.')


def grouped(owner: np.ndarray, sizes: np.ndarray) -> Partition:
  """A partition from each example's owner [E] and the sizes [N]."""
  order = np.argsort(owner, kind='stable')
  return np.split(order, np.cumsum(sizes)[:-1])


def check_alpha(alpha: Any) -> None:
  """Raises ValueError unless it can be a Dirichlet distribution's.

  That is computed on the host in float64, so `alpha` is not bound to what
  float32 holds.
  """
  if not (isinstance(alpha, numbers.Real) and not isinstance(alpha, bool)
          and 0 < alpha < math.inf):
    raise ValueError(f'alpha must be positive and finite, got {alpha!r}.')


def even_sizes(total: int, count: int) -> np.ndarray:
  """int64 [count] that sum to `total` and differ by at most one."""
  return total // count + (np.arange(count) < total % count)


def deal_by_label(
    rng: np.random.Generator, label_of: np.ndarray, counts: np.ndarray
) -> Partition:
  """Deals counts[l, i] examples of label l to client i, drawn at random.

  Args:
    rng: for the draws.
    label_of: int [E], from 0 to L - 1.
    counts: int [L, N]; each label's add up to its number of examples.
  """
  num_labels, num_clients = counts.shape
  owner = np.empty(len(label_of), np.int64)
  for label in range(num_labels):
    examples = rng.permutation(np.flatnonzero(label_of == label))
    owner[examples] = np.repeat(np.arange(num_clients), counts[label])
  return grouped(owner, counts.sum(axis=0))

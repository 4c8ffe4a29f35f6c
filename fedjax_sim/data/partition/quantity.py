"""IID labels, log-normal sizes."""

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.data.partition.dealing import Partition, check_enough, rng_of


def quantity(
    num_examples: int,
    num_clients: int,
    *,
    seed: int,
    sigma: float,
    min_size: int = 1,
) -> Partition:
  """IID labels, log-normal sizes.

  Sizes are proportional to exp(sigma * z), z standard normal for each client;
  clients whose share is below `min_size` get that, and the others divide what
  is left in the same proportions. Fractions are rounded by largest remainder,
  so that the sizes sum to `num_examples` exactly.

  Args:
    num_examples: E.
    num_clients: N.
    seed: whole number from 0 to 2**64 - 1.
    sigma: standard deviation of log(size), >= 0; 0 gives equal sizes.
    min_size: the fewest examples a client may have.

  Returns:
    N arrays that use every example once, in random order.

  Raises:
    ValueError: an argument is out of range, or E < N * min_size.
  """
  checks.positive_int('num_examples', num_examples)
  checks.non_negative('sigma', sigma)
  checks.at_least('min_size', min_size, 0)
  check_enough(num_examples, num_clients, min_size)
  rng = rng_of(seed, 'quantity')
  logs = sigma * rng.standard_normal(num_clients)
  sizes = _apportion(np.exp(logs - logs.max()), num_examples, min_size)
  return np.split(rng.permutation(num_examples), np.cumsum(sizes)[:-1])


def _apportion(
    weights: np.ndarray, total: int, min_size: int
) -> np.ndarray:
  """Whole numbers >= min_size, in proportion to weights [N], summing to total.

  Needs total >= N * min_size. Each pass fixes the shares that fall below the
  minimum; that takes from the others, so it repeats until none does.
  """
  fixed = np.zeros(len(weights), bool)
  while True:
    free = np.where(fixed, 0.0, weights)
    shares = np.where(
        fixed, min_size,
        free / max(free.sum(), np.finfo(float).tiny)
        * (total - min_size * fixed.sum()))
    below = shares < min_size
    if not below.any():
      break
    fixed |= below
  sizes = np.floor(shares).astype(np.int64)
  order = np.argsort(np.where(fixed, np.inf, sizes - shares), kind='stable')
  sizes[order[:total - sizes.sum()]] += 1
  return sizes

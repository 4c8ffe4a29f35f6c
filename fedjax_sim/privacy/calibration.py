"""How much noise a guarantee takes."""

import math

from fedjax_sim.core import checks
from fedjax_sim.privacy import accounting

# Of the noise multiplier.
_PRECISION = 1e-3
_LARGEST = 1e6


def noise_multiplier(
    epsilon: float,
    *,
    rounds: int,
    num_clients: int,
    cohort_size: int,
    sampling: str = 'poisson',
    delta: float | None = None,
) -> float:
  """The least noise for `private_mean` that guarantees an epsilon.

  Args:
    epsilon: what `guarantee` is to give, positive.
    rounds, num_clients, cohort_size, sampling, delta: as there.

  Returns:
    A noise multiplier, at most 0.1% above the least one.

  Raises:
    ValueError: an argument is out of range, dp-accounting is missing, or no
      noise is enough.
  """
  checks.positive('epsilon', epsilon)
  setting = accounting.checked(
      rounds, num_clients, cohort_size, sampling, delta)
  enough = lambda z: accounting.of(z, setting).epsilon <= epsilon
  high = 1.0
  while not enough(high):
    high *= 2
    if high > _LARGEST:
      raise ValueError(f'epsilon={epsilon} needs more noise than {_LARGEST:g} '
                       f'times the norm, in {rounds} rounds.')
  low = high / 2
  while low > 1e-3 and enough(low):
    low, high = low / 2, low
  while high / low > 1 + _PRECISION:
    middle = math.sqrt(low * high)
    low, high = (low, middle) if enough(middle) else (middle, high)
  return high

"""The learning-rate grid: which rates a cell still has to be run at.

Rates are 10^(k/6) for whole k, written with four digits. Even k, a resolution
of 10^(1/3), come first; beside the best of these, odd k, a resolution of
10^(1/6). The grid is extended until the best rate lies inside it, as in McMahan
et al. 2016. What is minimized is the number of rounds to the target.
"""

import math
from collections.abc import Mapping

# Where nothing crosses, the grid is given up once it has this many rates.
_MOST_WITHOUT_CROSSING = 7


def rate(k: int) -> str:
  """10^(k/6) as the store writes it."""
  return f'{10 ** (k / 6):.4g}'


def index(value: str | float) -> int | None:
  """The k of a rate; None if it is not on the grid.

  Raises:
    ValueError: not a positive number.
  """
  number = float(value)
  if not (math.isfinite(number) and number > 0):
    raise ValueError(f'rate must be positive and finite, got {value!r}.')
  k = round(6 * math.log10(number))
  return k if math.isclose(number, float(rate(k)), rel_tol=1e-3) else None


def first_rates(centre: str | float, count: int = 3) -> list[str]:
  """The coarse rates to begin with, the one nearest to the centre first.

  Args:
    centre: the rate where the best is expected.
    count: odd; how many.

  Raises:
    ValueError: the centre is not positive, or the count not odd and positive.
  """
  if count < 1 or count % 2 == 0:
    raise ValueError(f'count must be odd and positive, got {count!r}.')
  number = float(centre)
  if not (math.isfinite(number) and number > 0):
    raise ValueError(f'centre must be positive and finite, got {centre!r}.')
  middle = 2 * round(3 * math.log10(number))
  offsets = sorted(range(-count + 1, count, 2), key=abs)
  return [rate(middle + offset) for offset in offsets]


def next_rates(results: Mapping[str, float]) -> list[str]:
  """The rates to run now; none when the best one is known.

  Ask again with their results. The best rate is final when it has neighbours
  at 10^(1/6) on either side, neither of them better. Where no rate crosses, one
  more is asked for at either end, up to seven in all.

  Args:
    results: rate -> rounds to the target, `math.inf` where it is not reached
      (too slow, or diverged). Rates off the grid are not looked at.

  Raises:
    ValueError: no rate of the grid is among them, or a result is NaN.
  """
  found = {index(value): rounds for value, rounds in results.items()}
  found.pop(None, None)
  if not found or any(math.isnan(rounds) for rounds in found.values()):
    raise ValueError('results must hold rates of the grid (see first_rates), '
                     f'none of them NaN, got {dict(results)!r}.')
  best = min(found, key=lambda k: (found[k], k))
  if found[best] == math.inf:
    if len(found) >= _MOST_WITHOUT_CROSSING:
      return []
    return [rate(min(found) - 2), rate(max(found) + 2)]
  # Coarse neighbours of a coarse rate first: they may turn out to be better.
  for step in (2, 1) if best % 2 == 0 else (1,):
    missing = [k for k in (best - step, best + step) if k not in found]
    if missing:
      return [rate(k) for k in missing]
  return []

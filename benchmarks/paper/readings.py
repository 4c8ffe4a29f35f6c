"""Ways of reading "rounds to 97%" off a curve of test accuracies.

The paper reads it off the best accuracy so far, by linear interpolation between
evaluations, and doesn't say how far apart these are. Where accuracy jumps from
round to round, it matters how one looks.
"""

from collections.abc import Callable, Sequence

import numpy as np

from fedjax_sim.experiment import metrics

TARGET = 0.97

Reading = Callable[[Sequence[float]], float | None]


def every(rounds: int) -> Reading:
  """As the paper reads them, from rounds `rounds`, 2 `rounds`, ... alone."""
  def read(curve):
    looks = curve[rounds - 1::rounds]
    return metrics.rounds_to_target(
        rounds * np.arange(1, len(looks) + 1), looks, TARGET
    ) if looks else None
  return read


def held(count: int) -> Reading:
  """The first of so many rounds in a row that are all at the target."""
  def read(curve):
    above = np.asarray(curve) >= TARGET
    if len(above) < count:
      return None
    whole = np.lib.stride_tricks.sliding_window_view(above, count).all(axis=1)
    return float(np.argmax(whole) + 1) if whole.any() else None
  return read


def mean(count: int) -> Reading:
  """The first round whose mean with those before it, `count`, is there."""
  def read(curve):
    if len(curve) < count:
      return None
    # Accuracies of 10,000 examples are whole numbers, whose sums are exact.
    right = np.convolve(np.rint(1e4 * np.asarray(curve)), np.ones(count),
                        'valid')
    there = right >= round(1e4 * TARGET) * count
    return float(np.argmax(there) + count) if there.any() else None
  return read


def rounded(curve: Sequence[float]) -> float | None:
  """The first round whose accuracy is 97% when told in whole percent."""
  there = np.rint(1e4 * np.asarray(curve)) >= round(1e4 * TARGET) - 50
  return float(np.argmax(there) + 1) if there.any() else None


PLAIN = 'every round'
READINGS: dict[str, Reading] = {
    PLAIN: every(1), 'every 10': every(10), 'every 20': every(20),
    'every 50': every(50), '3 in a row': held(3), '5 in a row': held(5),
    'mean of 5': mean(5), 'whole percent': rounded}
TITLES = {
    PLAIN: 'after every round', 'every 10': 'after every 10th round',
    'every 20': 'after every 20th', 'every 50': 'after every 50th',
    '3 in a row': 'three rounds in a row at 97%',
    '5 in a row': 'five rounds in a row at 97%',
    'mean of 5': 'the mean of five rounds at 97%',
    'whole percent': 'accuracy rounded to whole percent'}

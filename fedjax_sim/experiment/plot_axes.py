"""What curves are drawn against: rounds, or what the rounds have taken."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_sim.experiment import closing_time

Records = Sequence[Mapping[str, Any]]


class Axis(NamedTuple):
  """A horizontal axis.

  Attributes:
    values: `(records) -> float64 [n]`, where each stands; NaN if unknown.
    unit: `(largest value) -> (what a unit is, label)`.
    whole: whether ticks stand at whole numbers only.
  """

  values: Callable[[Records], np.ndarray]
  unit: Callable[[float], tuple[float, str]]
  whole: bool = False


def field(name: str) -> Callable[[Records], np.ndarray]:
  """The values of a field of the records."""
  return lambda records: np.array(
      [record.get(name) for record in records], float)


def _time(largest: float) -> tuple[float, str]:
  seconds, name = closing_time.unit(largest)
  return seconds, f'simulated {name}'


AXES: Mapping[str, Axis] = {
    'round': Axis(field('round'), lambda largest: (1.0, 'communication round'),
                  whole=True),
    'simulated_seconds': Axis(field('simulated_seconds'), _time),
}
# Beside 'round', the end of the name of a figure's file where records have it.
ENDINGS = {'simulated_seconds': '_by_time'}


def known(records: Records) -> list[str]:
  """The axes, beside 'round', that these records have values of."""
  return [name for name in ENDINGS
          if len(records) and np.isfinite(AXES[name].values(records)).any()]

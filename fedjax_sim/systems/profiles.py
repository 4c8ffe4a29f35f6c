"""What each client's device and network can do."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.systems.availability import Windows


class Failures(NamedTuple):
  """Probabilities, in a round, that a device is lost without a report.

  They are independent: floats in [0, 1], or float64 [N] of each client.

  Attributes:
    before: it has received the model and does no step.
    training: it stops at a uniformly random moment of its training.
    after: it stops at a uniformly random moment of sending.
  """

  before: np.ndarray | float = 0.0
  training: np.ndarray | float = 0.0
  after: np.ndarray | float = 0.0


def failures(
    before: float = 0.0, training: float = 0.0, after: float = 0.0
) -> Failures:
  """`Failures`, the same probabilities for all clients.

  Args:
    before: of being lost before the first step, in [0, 1].
    training: during the steps.
    after: while sending.

  Raises:
    ValueError: one does not lie in [0, 1].
  """
  made = Failures(before, training, after)
  for name, value in made._asdict().items():
    checks.fraction(name, value)
  return made


class Profiles(NamedTuple):
  """The devices and networks of N clients.

  Attributes:
    step_seconds: float64 [N], seconds of a local step.
    down_bps: float64 [N], bits a second that a client receives.
    up_bps: float64 [N], bits a second that it sends.
    failures: of floats or float64 [N]; None for none.
    windows: when clients are eligible; None for always.
    training_watts: float64 [N], of a device that trains; None if unknown.
    radio_watts: float64 [N], of one that sends or receives; likewise.
  """

  step_seconds: np.ndarray
  down_bps: np.ndarray
  up_bps: np.ndarray
  failures: Failures | None = None
  windows: Windows | None = None
  training_watts: np.ndarray | None = None
  radio_watts: np.ndarray | None = None


class Population(NamedTuple):
  """Whose devices they are: a distribution, or a table.

  Attributes:
    make: `(num_clients, seed) -> Profiles`.
  """

  make: Callable[[int, int], Profiles]


def positive_column(
    name: str, values: np.ndarray, where: str, first_row: int = 0
) -> np.ndarray:
  """float64 [N], if all of them are positive and finite.

  Args:
    name: of the column, for the error.
    values: the column.
    where: what holds it, for the error.
    first_row: the number of its first row.
  """
  return _column(name, values, where, first_row, 'positive and finite',
                 lambda x: np.isfinite(x) & (x > 0))


def fraction_column(
    name: str, values: np.ndarray, where: str, first_row: int = 0
) -> np.ndarray:
  """float64 [N], if all of them lie in [0, 1]; as `positive_column`."""
  return _column(name, values, where, first_row, 'in [0, 1]',
                 lambda x: (x >= 0) & (x <= 1))


def _column(name, values, where, first_row, rule, is_good) -> np.ndarray:
  try:
    numbers = np.asarray(values, np.float64)
  except ValueError:
    bad, numbers = next((i, x) for i, x in enumerate(values)
                        if not _is_number(x)), None
  else:
    if numbers.ndim != 1:
      raise ValueError(f'{where}: column {name} must have one axis, got shape '
                       f'{list(numbers.shape)}.')
    wrong = np.flatnonzero(~is_good(numbers))
    if not len(wrong):
      return numbers
    bad = wrong[0], numbers[wrong[0]]
  row, value = bad
  raise ValueError(f'{where}: column {name} must be {rule}, got '
                   f'{checks.shown(checks.unwrapped(value))} in row '
                   f'{row + first_row}.')


def _is_number(text) -> bool:
  try:
    float(text)
  except (TypeError, ValueError):
    return False
  return True

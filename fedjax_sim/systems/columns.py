"""Columns of a user's table, each checked as a whole."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fedjax_sim.core import checks


class Rule(NamedTuple):
  """What the values of a column must be.

  Attributes:
    words: after "must be", for the error.
    holds: float64 [n] -> bool [n].
  """

  words: str
  holds: Callable[[np.ndarray], np.ndarray]


POSITIVE = Rule('positive and finite', lambda x: np.isfinite(x) & (x > 0))
FRACTION = Rule('in [0, 1]', lambda x: (x >= 0) & (x <= 1))


def column(
    name: str, values: np.ndarray, rule: Rule, path: str, first_row: int
) -> np.ndarray:
  """float64 [n], the values if the rule holds for all of them.

  Args:
    name: of the column.
    values: its values, which may be text.
    rule: what they must be.
    path: the file, for the error.
    first_row: the number of its first row, likewise.

  Raises:
    ValueError: it does not hold; names file, column, value and row.
  """
  try:
    numbers = np.asarray(values, np.float64)
  except (TypeError, ValueError):
    places = [i for i, x in enumerate(values) if not _is_number(x)]
    raise _wrong(name, rule, path, values[places[0]], places[0] + first_row
                 ) from None
  if numbers.ndim != 1:
    raise ValueError(f'{path}: column {name} must have one axis, got shape '
                     f'{list(numbers.shape)}.')
  wrong = np.flatnonzero(~rule.holds(numbers))
  if len(wrong):
    raise _wrong(name, rule, path, numbers[wrong[0]], wrong[0] + first_row)
  return numbers


def _wrong(name: str, rule: Rule, path: str, value, row: int) -> ValueError:
  return ValueError(
      f'{path}: column {name} must be {rule.words}, got '
      f'{checks.shown(checks.unwrapped(value))} in row {row}.')


def _is_number(text) -> bool:
  try:
    float(text)
  except (TypeError, ValueError):
    return False
  return True

"""Argument checks: each raises a `ValueError` naming field, value and rule.

They apply to concrete Python and NumPy values. A traced value (a swept
hyperparameter) passes unseen: whoever traces it checks it before.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax


def is_traced(value: Any) -> bool:
  """Whether `value` is known only to a program that is being made."""
  return isinstance(value, jax.core.Tracer)


def positive_int(name: str, value: Any) -> int:
  """Returns `value` if it is a whole number of at least 1."""
  return at_least(name, value, 1)


def at_least(name: str, value: Any, minimum: int) -> int:
  """Returns `value` if it is a whole number of at least `minimum`."""
  whole = not isinstance(value, bool) and hasattr(value, '__index__')
  if not whole or int(value) < minimum:
    raise ValueError(
        f'{name} must be a whole number >= {minimum}, got {value!r}.')
  return int(value)


def positive(name: str, value: Any) -> Any:
  """Returns `value` if it is finite and greater than zero."""
  if not is_traced(value) and not (_is_finite(value) and value > 0):
    raise ValueError(f'{name} must be positive and finite, got {value!r}.')
  return value


def rate(name: str, value: Any) -> Any:
  """Returns `value` if it is a positive number, and no optimizer."""
  if not is_traced(value) and hasattr(value, 'update'):
    raise ValueError(f'{name} must be a number, the rate of plain SGD, got an '
                     'optimizer.')
  return positive(name, value)


def non_negative(name: str, value: Any) -> Any:
  """Returns `value` if it is finite and at least zero."""
  if not is_traced(value) and not (_is_finite(value) and value >= 0):
    raise ValueError(f'{name} must be finite and >= 0, got {value!r}.')
  return value


def fraction(name: str, value: Any) -> Any:
  """Returns `value` if it lies in [0, 1]."""
  if not is_traced(value) and not (_is_finite(value) and 0 <= value <= 1):
    raise ValueError(f'{name} must lie in [0, 1], got {value!r}.')
  return value


def not_given(name: str, arguments: Mapping[str, Any], reason: str) -> None:
  """ValueError if `arguments` set `name` to something."""
  value = arguments.get(name)
  if is_traced(value) or value:
    raise ValueError(f'{name} must not be given: {reason}, got {value!r}.')


def one_of(name: str, value: Any, valid: Iterable[str]) -> str:
  """Returns `value` if it is among `valid`, else lists the valid names."""
  valid = sorted(valid)
  if value not in valid:
    near = difflib.get_close_matches(str(value), valid, n=1)
    hint = f' Did you mean {near[0]!r}?' if near else ''
    raise ValueError(
        f'{name} must be one of {", ".join(valid)}, got {value!r}.{hint}')
  return value


def _is_finite(value: Any) -> bool:
  try:
    return math.isfinite(value)
  except (TypeError, OverflowError):  # The latter of whole numbers.
    return False


def optimizer(name: str, value: Any) -> Any:
  """An optax optimizer, such as `optax.sgd(0.1)`."""
  if not (hasattr(value, 'init') and hasattr(value, 'update')):
    raise ValueError(
        f'{name} must be an optax optimizer, such as optax.sgd(0.1), got '
        f'{value!r}.')
  return value


def positive_int_or_auto(name: str, value) -> None:
  """ValueError unless `value` is 'auto' or a whole number >= 1."""
  if isinstance(value, str) and value == 'auto':
    return
  try:
    positive_int(name, value)
  except ValueError as error:
    raise ValueError(
        f"{name} must be 'auto' or a whole number >= 1, got {value!r}."
    ) from error

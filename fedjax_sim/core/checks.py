"""Argument checks: each raises a `ValueError` naming field, value and rule.

They apply to concrete Python and NumPy values. A traced value (a swept
hyperparameter) passes unseen: what traces it checks it before. True and
False are no numbers.
"""

import difflib
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

# Counts are int32 on the devices.
LARGEST = 2 ** 31 - 1
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_LONGEST = 80


def is_traced(value: Any) -> bool:
  """Whether `value` is known only to a program that is being made."""
  return isinstance(value, jax.core.Tracer)


def shown(value: Any) -> str:
  """A value for an error: one line, not too long, whatever the value is."""
  if callable(value) and hasattr(value, '__name__'):
    kind = 'class' if isinstance(value, type) else 'function'
    return f'the {kind} {value.__name__}'
  try:
    text = ' '.join(repr(value).split())
  except Exception:  # Such as a whole number of more than 4300 digits.
    text = f'a {type(value).__name__} too large to be shown'
  if len(text) <= _LONGEST:
    return text
  return f'{text[:_LONGEST - 20]}...{text[-10:]} ({type(value).__name__})'


def is_whole(value: Any) -> bool:
  """Whether `value` is a whole number by its type: 3, not 3.0 or True."""
  try:
    operator.index(value)
  except TypeError:
    return False
  return not isinstance(unwrapped(value), bool)


def is_number(value: Any) -> bool:
  """Whether `value` is a real number by its type; True is none."""
  return isinstance(unwrapped(value), int | float) and (
      not isinstance(unwrapped(value), bool))


def unwrapped(value: Any) -> Any:
  """A scalar of NumPy as Python's, and anything else as it is."""
  scalar = isinstance(value, np.generic) or (
      isinstance(value, np.ndarray) and value.ndim == 0)
  return value.item() if scalar else value


def positive_int(name: str, value: Any, maximum: int | None = LARGEST) -> int:
  """Returns `value` if it is a whole number of at least 1."""
  return at_least(name, value, 1, maximum)


def at_least(
    name: str, value: Any, minimum: int, maximum: int | None = LARGEST
) -> int:
  """Returns `value` if it is a whole number of at least `minimum`.

  Args:
    name: of the argument.
    value: its value.
    minimum: the smallest that is valid.
    maximum: the largest, None for no bound.
  """
  whole = is_whole(value)
  if not whole or int(value) < minimum:
    raise ValueError(
        f'{name} must be a whole number >= {minimum}, got {shown(value)}.')
  if maximum is not None and int(value) > maximum:
    raise ValueError(
        f'{name} must be a whole number <= {maximum}, got {shown(value)}.')
  return int(value)


def positive(name: str, value: Any) -> Any:
  """Returns `value` if it is greater than zero and finite, in float32 too."""
  if is_traced(value):
    return value
  if not (_is_finite(value) and value > 0):
    raise ValueError(
        f'{name} must be positive and finite, got {shown(value)}.')
  with np.errstate(over='ignore', under='ignore'):
    single = np.float32(value)
  # Smaller ones are flushed to zero.
  if not (np.isfinite(single) and single >= np.finfo(np.float32).tiny):
    raise ValueError(
        f'{name} must be positive and finite in float32, from about 1.2e-38 to '
        f'3.4e38, got {shown(value)}.')
  return value


def rate(name: str, value: Any) -> Any:
  """Returns `value` if it is a positive number, and no optimizer."""
  if not is_traced(value) and hasattr(value, 'update'):
    raise ValueError(f'{name} must be a number, the rate of plain SGD, got an '
                     'optimizer.')
  return positive(name, value)


def non_negative(name: str, value: Any) -> Any:
  """Returns `value` if it is finite and at least zero."""
  if not is_traced(value) and not (
      _is_finite(value) and 0 <= value <= _LARGEST_FLOAT):
    raise ValueError(f'{name} must be finite in float32 and >= 0, got '
                     f'{shown(value)}.')
  return value


def fraction(name: str, value: Any) -> Any:
  """Returns `value` if it lies in [0, 1]."""
  if not is_traced(value) and not (_is_finite(value) and 0 <= value <= 1):
    raise ValueError(f'{name} must lie in [0, 1], got {shown(value)}.')
  return value


def share(name: str, value: Any) -> Any:
  """Returns `value` if it lies in (0, 1]."""
  if not is_traced(value) and not (_is_finite(value) and 0 < value <= 1):
    raise ValueError(f'{name} must lie in (0, 1], got {shown(value)}.')
  return positive(name, value)


def decay(name: str, value: Any) -> Any:
  """Returns `value` if it lies in [0, 1): 1 would forget nothing, ever."""
  fraction(name, value)
  if not is_traced(value) and value >= 1:
    raise ValueError(f'{name} must lie in [0, 1), got {shown(value)}.')
  return value


def boolean(name: str, value: Any) -> bool:
  """Returns `value` if it is True or False."""
  if not isinstance(value, bool | np.bool):
    raise ValueError(f'{name} must be True or False, got {shown(value)}.')
  return bool(value)


def text(name: str, value: Any) -> str:
  """Returns `value` if it is text."""
  if not isinstance(value, str):
    raise ValueError(f'{name} must be text, got {shown(value)}.')
  return value


def function(name: str, value: Any, example: str) -> Any:
  """Returns `value` if it can be called; `example` says what it should be."""
  if not callable(value):
    raise ValueError(
        f'{name} must be a function, {example}, got {shown(value)}.')
  return value


def instance(name: str, value: Any, kind: type, makers: str) -> Any:
  """Returns `value` if it is a `kind`, such as a `Model`.

  Args:
    name: of the argument.
    value: its value.
    kind: what it must be.
    makers: what makes one, for the error; 'data.single(examples)'.
  """
  if isinstance(value, kind):
    return value
  hint = ''
  if callable(value) and hasattr(value, '__name__'):
    hint = f' Call it: {value.__name__}(...) may give one.'
  article = 'an' if kind.__name__[0] in 'AEIO' else 'a'
  raise ValueError(f'{name} must be {article} {kind.__name__}, such as '
                   f'{makers}, got {shown(value)}.{hint}')


def not_given(name: str, arguments: Mapping[str, Any], reason: str) -> None:
  """ValueError if `arguments` set `name` to something."""
  value = arguments.get(name)
  if is_traced(value) or value:
    raise ValueError(
        f'{name} must not be given: {reason}, got {shown(value)}.')


def one_of(name: str, value: Any, valid: Iterable[str]) -> str:
  """Returns `value` if it is among `valid`, else lists the valid names."""
  valid = sorted(valid)
  if not isinstance(value, str) or value not in valid:
    hint = near_hint(value, valid) if isinstance(value, str) else ''
    raise ValueError(f'{name} must be one of {", ".join(valid)}, got '
                     f'{shown(value)}.{hint}')
  return value


def near_hint(value: str, valid: Iterable[str]) -> str:
  """What may have been meant, the end of an error; '' if nothing is near."""
  found = near(value, list(valid))
  return f' Did you mean {found!r}?' if found else ''


def near(value: str, valid: Sequence[str]) -> str | None:
  """The name that was meant: one like it, or one that it is short for.

  What a name is short for begins like it and has its characters in their order,
  such as 'tensorfloat32' for 'tf32'.
  """
  def abbreviates(name: str) -> bool:
    rest = iter(name)
    return len(value) > 1 and name.startswith(value[0]) and (
        all(letter in rest for letter in value))

  close = difflib.get_close_matches(value, valid, n=1)
  return next(iter(close or filter(abbreviates, valid)), None)


def _is_finite(value: Any) -> bool:
  """Whether it is a number, no truth value, and finite."""
  dtype = getattr(value, 'dtype', None)
  if isinstance(value, bool | np.bool) or getattr(value, 'ndim', 0) or (
      isinstance(dtype, np.dtypes.BoolDType)):
    return False
  try:
    return math.isfinite(value)
  except (TypeError, ValueError, OverflowError):  # The last of whole numbers.
    return False


def optimizer(name: str, value: Any) -> Any:
  """An optax optimizer, such as `optax.sgd(0.1)`."""
  if not (hasattr(value, 'init') and hasattr(value, 'update')):
    call = f' Call it: {value.__name__}(0.1).' if (
        callable(value) and hasattr(value, '__name__')) else ''
    raise ValueError(
        f'{name} must be an optax optimizer, such as optax.sgd(0.1), got '
        f'{shown(value)}.{call}')
  return value


def positive_int_or_auto(
    name: str, value: Any, words: Sequence[str] = ('auto',)
) -> None:
  """ValueError unless `value` is 'auto', or a word, or a number >= 1."""
  if isinstance(value, str) and value in words:
    return
  try:
    positive_int(name, value)
  except ValueError as error:
    raise ValueError(
        f'{name} must be {", ".join(map(repr, words))} or a whole number >= 1, '
        f'got {shown(value)}.'
    ) from error

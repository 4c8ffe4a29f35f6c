"""Whether an argument is of the kind that its parameter's annotation says."""

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fedjax_sim.core import checks

_ARRAYS = (jax.Array, np.ndarray, np.bool, np.number)


def problem(parameter: inspect.Parameter, value: Any) -> str:
  """What is wrong with an argument: 'must be a float, got True'.

  Numbers, bool, str, None, callables and NamedTuples are checked, and unions of
  these; whatever other annotations say is not. A bool is no number, and a
  traced number is one. A function must take as many arguments as the function
  that is the default.

  Args:
    parameter: with its annotation evaluated.
    value: the argument.

  Returns:
    Text without a full stop, '' if nothing is wrong.
  """
  if value is parameter.default:
    return ''
  kinds = _members(parameter.annotation)
  if not any(_fits(kind, value, kinds) for kind in kinds):
    shown = [x for x in kinds if float not in kinds or x not in (bool, int)]
    wanted = ' or '.join(dict.fromkeys(map(_shown, shown)))
    return f'must be {wanted}, got {_told(value)}'
  if _is_too_large(value) and float in kinds:
    return (f'must be a whole number of at most {checks.LARGEST}, or a float '
            f'such as 1e12, got {_told(value)}')
  count = _num_needed(parameter.default)
  if count and inspect.isfunction(value) and not _takes(value, count):
    return (f'must be a function of {count} arguments, like '
            f'{parameter.default.__name__}, got {value.__name__}')
  return ''


def _members(annotation: Any) -> list[Any]:
  """The members of a union, or the annotation alone."""
  if typing.get_origin(annotation) in (typing.Union, types.UnionType):
    return [m for x in typing.get_args(annotation) for m in _members(x)]
  return [annotation]


def _fits(kind: Any, value: Any, kinds: list[Any]) -> bool:
  if kind in (None, type(None)):
    return value is None
  if kind is bool:  # That of optax's numbers is there for arrays.
    return isinstance(value, bool | np.bool) and float not in kinds or (
        _is_array(value))
  if kind in (int, float, complex):
    whole = kind is not int or not isinstance(value, float)
    return isinstance(value, int | float | np.number) and whole and (
        not isinstance(value, bool)) or _is_array(value)
  if kind is str:
    return isinstance(value, str)
  if kind is Callable or typing.get_origin(kind) is collections.abc.Callable:
    return callable(value)
  if kind in _ARRAYS and len(kinds) > 1:
    return isinstance(value, kind) or _is_array(value)
  if inspect.isclass(kind) and issubclass(kind, tuple) and (
      hasattr(kind, '_fields')):
    return isinstance(value, kind)
  return True


def _is_too_large(value: Any) -> bool:
  """Whether it is a whole number that devices can't hold."""
  return isinstance(value, int) and abs(value) > checks.LARGEST


def _is_array(value: Any) -> bool:
  return isinstance(value, jax.Array | np.ndarray)


def _shown(kind: Any) -> str:
  if kind in (None, type(None)):
    return 'None'
  if kind in (int, float, complex, *_ARRAYS):
    return 'a whole number' if kind is int else 'a number'
  if kind is bool:
    return 'True or False'
  if kind is str:
    return 'text'
  return f'a {kind.__name__}' if inspect.isclass(kind) else 'a function'


def _told(value: Any) -> str:
  plain = value is None or isinstance(value, bool | int | float | str)
  return checks.shown(value) if plain else f'a {type(value).__name__}'


def _num_needed(function: Any) -> int:
  """How many arguments without a default a function has."""
  if not inspect.isfunction(function):
    return 0
  return sum(p.default is p.empty and p.kind in (
      p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
             for p in inspect.signature(function).parameters.values())


def _takes(function: Any, count: int) -> bool:
  try:
    inspect.signature(function).bind(*[None] * count)
  except TypeError:
    return False
  return True

"""Whether an argument is of the kind that its parameter's annotation says."""

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import jax
import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.core.signatures import signature

Function = TypeVar('Function', bound=Callable[..., Any])

_ARRAYS = (jax.Array, np.ndarray, np.bool, np.number)
# What users know these classes as.
_CLASSES = {
    'Aggregator': 'a whole aggregator, as aggregation.aggregator makes one,',
    'FederatedData': 'a federation, as data.federate and data.from_clients '
                     'make one,',
    'GradientTransformation': 'an optax optimizer, such as optax.sgd(0.1),',
    'Model': 'a Model, as models.from_linen, models.from_nnx and '
             'models.from_functions make one,',
}


def checked(function: Function) -> Function:
  """The function, with a look at the kinds of its arguments at each call.

  What it raises then is a `ValueError` that names the argument. For functions
  that users call: those inside of the package are spared the look.
  """
  @functools.wraps(function)
  def look_and_call(*args, **kwargs):
    about = signature(function)
    given = dict(zip(about.positional, args, strict=False)) | kwargs
    if not given.keys() <= about.parameters.keys():
      return function(*args, **kwargs)  # Which tells of unknown keywords.
    for name, value in given.items():
      wrong = _wrong_kind(about.parameters[name], value)
      if wrong:
        raise ValueError(f'{name} {wrong}, in {function.__name__}().'
                         f'{_hint(about.parameters[name], value)}')
    return function(*args, **kwargs)

  return look_and_call


def check_public(module: dict[str, Any]) -> None:
  """Makes the functions that a package exports `checked` ones.

  Args:
    module: its `globals()`, with `__all__`.
  """
  for name in module['__all__']:
    if inspect.isfunction(module[name]):
      module[name] = checked(module[name])


def problem(parameter: inspect.Parameter, value: Any) -> str:
  """What is wrong with an argument: 'must be a float, got True'.

  Numbers, bool, str, None, callables and NamedTuples are checked, and unions of
  these; whatever other annotations say is not. A bool is no number, no list and
  no tuple, and a traced number is one. Without an annotation the default says
  whether a number is meant. A function must take as many arguments as the
  function that is the default.

  Args:
    parameter: with its annotation evaluated.
    value: the argument.

  Returns:
    Text without a full stop, '' if nothing is wrong.
  """
  wrong = _wrong_kind(parameter, value)
  if wrong:
    return wrong
  count = _num_needed(parameter.default)
  if count and inspect.isfunction(value) and not _takes(value, count):
    return (f'must be a function of {count} arguments, like '
            f'{parameter.default.__name__}, got {value.__name__}')
  return ''


def _wrong_kind(parameter: inspect.Parameter, value: Any) -> str:
  """`problem`, but for the number of a function's arguments."""
  if value is parameter.default:
    return ''
  kinds = _members(parameter.annotation)
  if parameter.annotation is parameter.empty and checks.is_number(
      parameter.default):
    kinds = [float, Callable]  # Or what makes numbers, such as a schedule.
  if not any(_fits(kind, value, kinds) for kind in kinds):
    return f'must be {_wanted(kinds)}, got {_told(value)}'
  if _is_too_large(value) and float in kinds:
    return (f'must be a whole number of at most {checks.LARGEST}, or a float '
            f'such as 1e12, got {_told(value)}')
  return ''


def _wanted(kinds: list[Any]) -> str:
  """What an argument of one of these kinds must be, for errors."""
  if kinds == [jax.Array]:
    return 'an array'
  shown = [x for x in kinds if float not in kinds or x not in (bool, int)]
  return ' or '.join(dict.fromkeys(map(_shown, shown))).rstrip(',')


def wanted(annotation: Any) -> str:
  """What it says: 'a number or None'; '' if a function may do or it is open."""
  kinds = _members(annotation)
  return '' if any(map(_is_open, kinds)) else _wanted(kinds)


def _is_open(kind: Any) -> bool:
  """Whether it may stand for a function, or says nothing."""
  if typing.get_origin(kind) is collections.abc.Sequence:
    return any(_is_open(x) for y in typing.get_args(kind) for x in _members(y))
  known = inspect.isclass(kind) or kind is None
  return not known or kind in (Any, object, inspect.Parameter.empty)


def makes(builder: Callable[..., Any], annotation: Any) -> bool:
  """Whether a builder says that it returns a class that is wanted.

  Args:
    builder: a function, with its return type annotated or not.
    annotation: of a parameter; of a list, that of its elements counts.
  """
  made = signature(builder).returned
  members = [m for x in _members(annotation)
             for m in (x, *typing.get_args(x))]
  return inspect.isclass(made) and any(
      inspect.isclass(m) and issubclass(made, m) for m in members)


def _hint(parameter: inspect.Parameter, value: Any) -> str:
  """A sentence for those who give a spec where Python wants an object."""
  of_ours = any(map(_is_checked_class, _members(parameter.annotation)))
  if not isinstance(value, str) or not of_ours:
    return ''
  return (' Text is for a config and the command line; in Python call the '
          'function that it names.')


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
        _is_array(value, kinds))
  if kind in (int, float, complex):
    whole = kind is not int or not isinstance(value, float)
    return isinstance(value, int | float | np.number) and whole and (
        not isinstance(value, bool)) or _is_array(value, kinds)
  if kind is str:
    return isinstance(value, str)
  if kind is Callable or typing.get_origin(kind) is collections.abc.Callable:
    return callable(value)
  if kind in _ARRAYS:
    return isinstance(value, kind | np.generic) or _is_array(value, kinds)
  if typing.get_origin(kind) is collections.abc.Sequence:
    return _is_array(value, _ARRAYS) or (
        isinstance(value, collections.abc.Sequence)
        and not isinstance(value, str | bytes))
  if typing.get_origin(kind) is collections.abc.Mapping:
    return isinstance(value, collections.abc.Mapping)
  if typing.get_origin(kind) in (list, tuple, typing.Literal):
    return not isinstance(value, bool)
  if _is_checked_class(kind):
    return isinstance(value, kind)
  return True


def _is_checked_class(kind: Any) -> bool:
  """Whether it is a NamedTuple, or a class of this package."""
  return inspect.isclass(kind) and (
      issubclass(kind, tuple) and hasattr(kind, '_fields')
      or kind.__module__.partition('.')[0] == __name__.partition('.')[0])


def _is_too_large(value: Any) -> bool:
  """Whether it is a whole number that devices can't hold."""
  return isinstance(value, int) and abs(value) > checks.LARGEST


def _is_array(value: Any, kinds: Collection[Any]) -> bool:
  """Whether it is an array; with axes only where one of the kinds is."""
  return isinstance(value, jax.Array | np.ndarray) and (
      value.ndim == 0 or any(kind in _ARRAYS for kind in kinds))


def _shown(kind: Any) -> str:
  if kind in (None, type(None)):
    return 'None'
  if kind in (int, float, complex, *_ARRAYS):
    return 'a whole number' if kind is int else 'a number'
  if kind is bool:
    return 'True or False'
  if kind is str:
    return 'text'
  if typing.get_origin(kind) is collections.abc.Sequence:
    return 'a list'
  if typing.get_origin(kind) is collections.abc.Mapping:
    return 'a dict'
  if not inspect.isclass(kind):
    return 'a function'
  return _CLASSES.get(kind.__name__, _article(kind.__name__))


def _article(name: str) -> str:
  return f'{"an" if name[0] in "AEIOU" else "a"} {name}'


def _told(value: Any) -> str:
  if callable(value) and hasattr(value, '__name__'):
    return f'{checks.shown(value)}, which was not called'
  plain = value is None or isinstance(value, bool | int | float | str)
  return checks.shown(value) if plain else _article(type(value).__name__)


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

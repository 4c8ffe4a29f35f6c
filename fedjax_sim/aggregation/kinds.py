"""Which kind of part stands where: a transform, a stage or a reducer."""

from typing import Any

from fedjax_sim.core.types import Aggregator, MessageTransform, Reducer

TRANSFORM = 'a transform, such as clip(1.0)'
REDUCER = 'a reducer, such as median()'


def check(argument: str, value: Any, kind: type, wanted: str) -> None:
  """ValueError unless `value` is of a kind.

  Args:
    argument: what it was given as, such as 'reduce'.
    value: what was given.
    kind: the type that it must have.
    wanted: that kind in words.
  """
  if not isinstance(value, kind):
    raise ValueError(f'{argument} must be {wanted}, got {describe(value)}.')


def describe(value: Any) -> str:
  """What was given, in a user's words."""
  if isinstance(value, MessageTransform):
    return f'the transform {value.name!r}'
  if isinstance(value, Reducer):
    return 'a reducer'
  if isinstance(value, Aggregator):
    return 'a whole aggregator'
  name = getattr(value, '__name__', None)
  if callable(value) and name:
    return f'the function {name} itself, which has to be called: {name}(…)'
  return repr(value)

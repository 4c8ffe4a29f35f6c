"""What functions of a user's own must return: errors name part and array.

Everything here looks at structures, shapes and dtypes alone, while a program is
traced, so it adds nothing to what is compiled.
"""

import traceback
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core.types import MetricSums, PyTree, Scalars

# Of another package's error; JAX's can be pages.
_LONGEST = 300


def call(part: str, function: Callable, *args, hint: str = '') -> Any:
  """What a function returns; names the part of which it is where it fails.

  Args:
    part: such as "algorithm's client", for errors.
    function: what is called.
    *args: with these.
    hint: a sentence that is added to the error.

  Raises:
    ValueError: it fails. What this package raised itself stays as it is.
  """
  try:
    return function(*args)
  except Exception as error:
    if is_ours(error):
      raise
    text = ' '.join(str(error).split())
    if len(text) > _LONGEST:
      text = f'{text[:_LONGEST]}…'
    raise ValueError(
        f'{part} fails with this model and these examples: '
        f'{type(error).__name__}: {text}{hint}') from error


def is_ours(error: Exception) -> bool:
  """Whether this package has raised it, and says what is wrong."""
  if not isinstance(error, ValueError):
    return False
  frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
  return frames[-1].f_globals['__name__'].startswith(
      f'{__name__.split(".")[0]}.')


def items(part: str, value: Any, wanted: str) -> tuple:
  """The value, a tuple of as many items as `wanted` has, '(message, memory)'.

  Raises:
    ValueError: it is anything else.
  """
  count = wanted.count(',') + 1
  if type(value) is tuple and len(value) == count:
    return value
  raise ValueError(f'{part} must return {wanted}, got {_kind(value)}.')


def instance(part: str, value: Any, kind: type, what: str = '') -> None:
  """ValueError unless the value, or `what` is a part of it, is of a kind."""
  if isinstance(value, kind):
    return
  name = f'{kind.__name__}({", ".join(getattr(kind, "_fields", ()))})'
  raise ValueError(f'{part} must return a {name}{what and f" as {what}"}, got '
                   f'{_kind(value)}.')


def same(
    part: str, what: str, got: PyTree, like: PyTree, of: str,
    dtypes: bool = True,
) -> None:
  """ValueError unless a tree has the structure and the shapes of another.

  Args:
    part: whose function has returned it, "algorithm's client".
    what: what it is, 'a state'.
    got: what was returned.
    like: what it must be like.
    of: what that is, 'the one that it was given'.
    dtypes: whether these must be the same too.
  """
  found = _difference(got, like, dtypes)
  if found:
    raise ValueError(f'{part} must return {what} like {of}: {found}.')


def arrays(part: str, what: str, tree: PyTree) -> None:
  """ValueError unless all leaves are arrays."""
  for path, x in _leaves(tree).items():
    if not hasattr(x, 'shape'):
      raise ValueError(f'{part} must return arrays as {what}, '
                       f'{path or "it"} is {_kind(x)}.')


def metric_sums(part: str, metrics: MetricSums) -> None:
  """ValueError unless these are pairs of scalars by name."""
  rule = (f'{part} must return metrics as name -> (sum, count), two scalars, '
          'such as (norm, 1.0) for a mean over clients')
  if not isinstance(metrics, Mapping):
    raise ValueError(f'{rule}; got {_kind(metrics)}.')
  for name, value in metrics.items():
    if not isinstance(value, tuple | list) or len(value) != 2:
      raise ValueError(f'{rule}; {name!r} is {_kind(value)}.')
    for x in value:
      if not _is_number(x):
        raise ValueError(f'{rule}; {name!r} holds {_kind(x)}.')


def scalars(part: str, values: Scalars) -> None:
  """ValueError unless these are scalars by name."""
  rule = f'{part} must return metrics as name -> scalar'
  if not isinstance(values, Mapping):
    raise ValueError(f'{rule}; got {_kind(values)}.')
  for name, value in values.items():
    if not _is_number(value):
      raise ValueError(f'{rule}; {name!r} is {_kind(value)}.')


def shape(x: Any) -> str:
  """Such as float32[16]."""
  if not _is_array(x):
    return f'a {type(x).__name__}'
  dims = ', '.join(map(str, np.shape(x)))
  return f'{jnp.result_type(x).name}[{dims}]'


def _difference(got: PyTree, like: PyTree, dtypes: bool) -> str:
  """The first array in which the two are not alike, in words; '' if none."""
  ours, theirs = _leaves(got), _leaves(like)
  for path in theirs | ours:
    name = path or 'it'
    if path not in ours:
      return f'{name} is missing, {shape(theirs[path])}'
    if path not in theirs:
      return f'{name} is too many, {shape(ours[path])}'
    x, y = ours[path], theirs[path]
    if (not _is_array(x) or np.shape(x) != np.shape(y)
        or dtypes and jnp.result_type(x) != jnp.result_type(y)):
      return f'{name} is {shape(x)} and must be {shape(y)}'
  if jax.tree.structure(got) != jax.tree.structure(like):
    return (f'it is made of {jax.tree.structure(got)} and must be made of '
            f'{jax.tree.structure(like)}')
  return ''


def _leaves(tree: PyTree) -> dict[str, Any]:
  return {jax.tree_util.keystr(path, simple=True, separator='/'): x
          for path, x in jax.tree.leaves_with_path(tree)}


def _is_array(x: Any) -> bool:
  return hasattr(x, 'shape') or isinstance(x, bool | int | float)


def _is_number(x: Any) -> bool:
  return _is_array(x) and np.shape(x) == ()


def _kind(value: Any) -> str:
  """What was returned, in few words."""
  if isinstance(value, tuple) and not hasattr(value, '_fields'):
    return f'a tuple of {len(value)}'
  if hasattr(value, 'shape'):
    return shape(value)
  if value is None:
    return 'None'
  return f'a {type(value).__name__}'

"""Whatever holds examples, as a PyTree of NumPy arrays.

Arrays come from NumPy, JAX, PyTorch, pandas or plain lists. Each is converted
once, and what can't be is named by its place, such as `examples['x']`.
"""

from collections.abc import Mapping, Set
from typing import Any

import jax
import numpy as np

from fedjax_sim.core.types import PyTree


def as_examples(value: Any, name: str = 'examples') -> PyTree:
  """Converts examples of any of the usual kinds.

  Args:
    value: a dict of arrays [E, ...], whose values may be such dicts or tuples
      again; a pair (x, y) of arrays; one array; or any other PyTree of arrays.
      An array may also be a list of numbers or of equal arrays, a tensor of
      PyTorch, or a column or frame of pandas.
    name: what messages call it.

  Returns:
    A dict for a dict, `{'x': ..., 'y': ...}` for a pair, else the same PyTree;
    its leaves are NumPy arrays. Whether these hold numbers is not checked here.

  Raises:
    ValueError: naming the leaf that is no array, or whose rows differ.
  """
  if _is_frame(value):
    raise ValueError(
        f'{name} must be a dict with x and y or a pair (x, y), got a '
        f'{type(value).__name__}; data.from_dataframe(df, client=, x=, y=) '
        'makes a federation of it.')
  if isinstance(value, str | bytes) or value is None:
    raise ValueError(f'{name} must be a dict of arrays with x and y, or a pair '
                     f'(x, y), got {value!r:.60}.')
  if type(value) is tuple and len(value) == 2:
    value = dict(zip('xy', value, strict=True))
  return _convert(value, name)


def _convert(value: Any, name: str) -> PyTree:
  if isinstance(value, Mapping):
    for key in value:
      if not isinstance(key, str):
        raise ValueError(f'the names in {name} must be text, got {key!r}.')
    return {key: _convert(item, f'{name}[{key!r}]')
            for key, item in value.items()}
  if isinstance(value, tuple):  # A container too; lists are arrays.
    parts = [_convert(item, f'{name}[{i}]') for i, item in enumerate(value)]
    return type(value)(*parts) if hasattr(value, '_fields') else tuple(parts)
  if _is_other_container(value):
    return jax.tree.map_with_path(
        lambda path, leaf: as_array(
            leaf, name + jax.tree_util.keystr(path)), value)
  return as_array(value, name)


def as_array(value: Any, name: str) -> np.ndarray:
  """One array of anything that is one, or ValueError naming it."""
  if type(value) in (np.ndarray, np.memmap) and value.dtype != object:
    return value
  if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
    raise ValueError(f'{name} is a masked array with values that are masked: '
                     'leave out these examples, or fill them in.')
  try:
    array = np.asarray(_on_host(value))
  except Exception as error:  # Whatever a foreign array raises.
    if isinstance(value, list | tuple):
      return stack(value, name)
    raise ValueError(f'{name} must be an array, got a {type(value).__name__} '
                     f'that NumPy can\'t take: {error}') from error
  if array.dtype == object and array.ndim == 1 and len(array):
    return _of_objects(array, name)
  return array


def stack(rows: Any, name: str) -> np.ndarray:
  """[E, ...] of E arrays of one shape, or ValueError naming the odd one."""
  arrays = [as_array(row, f'{name}: example {i}')
            for i, row in enumerate(rows)]
  for i, array in enumerate(arrays):
    if array.shape != arrays[0].shape:
      raise ValueError(
          f'{name} must be of one shape for all examples, got '
          f'{list(arrays[0].shape)} in example 0 and {list(array.shape)} in '
          f'example {i}: pad, crop or resize them.')
  return np.stack(arrays)


def as_list(name: str, value: Any) -> list:
  """The items of a list, an array or another iterable with an order."""
  wrong = f'{name} must be a list, got a {type(value).__name__}'
  if isinstance(value, str | bytes | Mapping | Set) or _is_frame(value):
    raise ValueError(f'{wrong}.')
  try:
    return list(value)
  except TypeError as error:  # Of an array without axes, too.
    raise ValueError(f'{wrong}: {error}.') from error


def is_missing(value: Any) -> bool:
  """Whether a value stands for none: None, NaN, pandas' NA and NaT."""
  if value is None:
    return True
  try:
    return bool(value != value)
  except (TypeError, ValueError):  # NA is neither equal nor unequal.
    return type(value).__name__ == 'NAType'


def _of_objects(array: np.ndarray, name: str) -> np.ndarray:
  """An object array [E] whose entries are arrays or numbers."""
  if all(hasattr(item, '__len__') and not isinstance(item, str | bytes)
         for item in array):
    return stack(array, name)
  missing = [i for i, item in enumerate(array) if is_missing(item)]
  if missing and all(is_missing(item) or _is_number(item) for item in array):
    raise ValueError(f'{name} has no value in example {missing[0]}, and in '
                     f'{len(missing)} of {len(array)}.')
  if all(_is_number(item) for item in array):
    return np.array(array.tolist())
  return array


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float | np.generic)


def _on_host(value: Any) -> Any:
  """A tensor of PyTorch as what NumPy takes; anything else as it is."""
  if hasattr(value, 'detach') and hasattr(value, 'cpu'):
    return value.detach().cpu().numpy()
  return value


def _is_frame(value: Any) -> bool:
  return hasattr(value, 'iloc') and hasattr(value, 'columns')


def _is_other_container(value: Any) -> bool:
  """A PyTree of another kind than dicts, tuples and lists."""
  return not (isinstance(value, list)
              or jax.tree_util.treedef_is_leaf(jax.tree.structure(value)))

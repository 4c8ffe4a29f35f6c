"""Labels and client ids: an array with a value for every example."""

from typing import Any

import numpy as np

from fedjax_sim.data.examples import is_missing


def as_labels(labels: Any, name: str = 'labels') -> np.ndarray:
  """`labels` as a non-empty 1-D array of integers, bools or strings.

  Raises:
    ValueError: they are something else, or one is missing (None or NaN), which
      NumPy would turn into text: then there would be a client 'nan'.
  """
  _check_none_missing(labels, name)
  try:
    array = np.asarray(labels)
  except Exception as error:  # Ragged, or no array of numbers.
    raise ValueError(f'{name} must be a 1-D array: {error}') from error
  if array.ndim == 1 and array.dtype.kind == 'O':
    array = np.asarray(array.tolist())  # Strings, as pandas holds them.
  if array.ndim != 1 or not array.size or array.dtype.kind not in 'biuUS':
    raise ValueError(
        f'{name} must be a 1-D array, not empty, of whole numbers or strings, '
        f'got {describe(array)}.')
  return array


def _check_none_missing(labels: Any, name: str) -> None:
  if isinstance(labels, np.ndarray) and labels.dtype.kind not in 'Of':
    # What NumPy makes of a list of strings with NaN in it.
    if labels.dtype == np.dtype('U32') and (labels == 'nan').any():
      raise ValueError(
          f"{name} must have a value for every example; example "
          f"{int(np.argmax(labels == 'nan'))} has 'nan', NumPy's text for a "
          'missing one: leave such examples out, or rename the client.')
    return
  if not hasattr(labels, '__len__') or not np.ndim(labels):
    return  # Said by the caller.
  missing = [i for i, value in enumerate(labels) if is_missing(value)]
  if missing:
    raise ValueError(
        f'{name} must have a value for every example; example {missing[0]} has '
        f'none, {len(missing):,} of {len(labels):,} have none: leave these '
        'examples out.')


def describe(value: Any) -> str:
  """Dtype and shape of an array, the type of anything else."""
  if isinstance(value, np.ndarray):
    return f'{value.dtype} {list(value.shape)}'
  return f'a {type(value).__name__}'

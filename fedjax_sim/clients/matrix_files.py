"""Symmetric matrices of clients, out of arrays and files, with their errors."""

import zipfile
from collections.abc import Sequence

import numpy as np

from fedjax_sim.core import checks


def read(name: str, value: Sequence | np.ndarray | str) -> np.ndarray:
  """A symmetric array [N, N] of finite numbers.

  Args:
    name: of the argument.
    value: it, or the path of a .npy file with it.

  Raises:
    ValueError: it is something else; where one entry is wrong, names it.
  """
  found = _loaded(name, value) if isinstance(value, str) else _array(value)
  if (found is None or found.ndim != 2 or found.dtype.kind not in 'biuf'
      or not found.shape[0] == found.shape[1] > 0):
    got = checks.shown(value) if found is None else (
        f'{found.dtype} {list(found.shape)}')
    raise ValueError(
        f'{name} must be a symmetric array of numbers [N, N], got {got}.')
  check_entries(name, found, np.isfinite(found), 'be finite')
  wide = found.astype(np.float64)
  row, column = _first(np.abs(wide - wide.T) > 1e-6)
  if row is not None:
    raise ValueError(
        f'{name} must be symmetric, got {found[row, column]} in row {row}, '
        f'column {column}, and {found[column, row]} in row {column}, column '
        f'{row}.')
  return found


def check_entries(
    name: str, matrix: np.ndarray, valid: np.ndarray, rule: str
) -> None:
  """ValueError that names the first entry which is not valid, bool [N, N]."""
  row, column = _first(~valid)
  if row is not None:
    raise ValueError(f'{name} must {rule}, got {matrix[row, column]} in row '
                     f'{row}, column {column}, counted from 0.')


def _first(wrong: np.ndarray) -> tuple[int | None, int | None]:
  """The first place, row by row; (None, None) if there is none."""
  if not wrong.any():
    return None, None
  row, column = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
  return int(row), int(column)


def _array(value: Sequence | np.ndarray) -> np.ndarray | None:
  """None for rows of unequal length."""
  try:
    return np.asarray(value)
  except ValueError:
    return None


def _loaded(name: str, path: str) -> np.ndarray:
  try:
    found = np.load(path, allow_pickle=False)
  except OSError as error:
    raise ValueError(
        f'{name} must be an array or the path of a .npy file, got {path!r}, '
        f'which can\'t be read: {error.strerror or error}.') from None
  except (ValueError, EOFError, zipfile.BadZipFile):
    found = None  # NumPy's own advice would be to unpickle it.
  if not isinstance(found, np.ndarray):
    raise ValueError(f'{name} must be an array or the path of a .npy file, as '
                     f'numpy.save writes it, which {path!r} is not.')
  return found

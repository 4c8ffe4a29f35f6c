"""Federations out of tables: data frames of pandas, which is not imported."""

import difflib
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from fedjax_sim.data import partition
from fedjax_sim.data.examples import as_array, is_missing
from fedjax_sim.data.federated import (
    FederatedData,
    federate,
    is_numeric,
    single,
)


def from_dataframe(
    df: Any,
    *,
    x: Hashable | list[Hashable],
    y: Hashable | list[Hashable],
    client: Hashable | None = None,
) -> FederatedData:
  """A federation of a data frame's rows, each an example.

  Args:
    df: a `pandas.DataFrame`, or whatever has its `columns` and `[name]`.
    x: the inputs: a list of F columns of numbers, which become float32 [E, F]
      in this order; or one column of numbers, [E], or of arrays of one shape,
      [E, ...], in the dtype that they have.
    y: the labels, likewise; one column of bools becomes int32.
    client: the column that names each row's client: whole numbers or text.
      None makes one client of all rows, for centralized training and for test
      sets.

  Returns:
    Clients in sorted order of their names, with their rows in the frame's
    order.

  Raises:
    ValueError: there is no such column; or a column, which is named, has text
      or missing values where numbers are needed, or arrays of several shapes;
      or a row has no client.
  """
  if not (hasattr(df, 'columns') and hasattr(df, 'iloc')):
    raise ValueError('df must be a data frame, with columns, got a '
                     f'{type(df).__name__}.')
  examples = {'x': _columns(df, 'x', x), 'y': _columns(df, 'y', y)}
  if examples['y'].dtype == bool:
    examples['y'] = examples['y'].astype(np.int32)
  if client is None:
    return single(examples)
  parts, names = partition.natural(_ids(df, client))
  return federate(examples, parts, names)


def _columns(df: Any, field: str, names: Any) -> np.ndarray:
  """One column as it is, or several side by side."""
  if not isinstance(names, list):
    return _column(df, field, names)
  if not names:
    raise ValueError(f'{field} must name at least one column, got [].')
  columns = [_column(df, field, name) for name in names]
  for name, column in zip(names, columns, strict=True):
    if column.ndim != 1:
      raise ValueError(
          f'{field}: of several columns each must hold numbers, {name!r} holds '
          f'arrays of shape {list(column.shape[1:])}. Name it alone.')
  return np.stack([column.astype(np.float32) for column in columns], axis=1)


def _column(df: Any, field: str, name: Hashable) -> np.ndarray:
  """A column of numbers or of arrays, with nothing missing."""
  label = f'{field}: column {name!r}'
  values = _series(df, field, name).to_numpy()
  _check_present(label, values)
  array = as_array(values, label)
  if not is_numeric(array.dtype):
    first = values[0] if len(values) else None
    raise ValueError(
        f'{label} must hold numbers, got {array.dtype} such as {first!r:.40}; '
        "codes of a text column c are df[c].astype('category').cat.codes.")
  return array


def _series(df: Any, field: str, name: Hashable) -> Any:
  columns = list(df.columns)
  if not isinstance(name, Hashable):
    raise ValueError(f'{field} must name a column of the frame, got a '
                     f'{type(name).__name__}.')
  if columns.count(name) != 1:
    near = difflib.get_close_matches(str(name), map(str, columns), n=1)
    hint = f' Did you mean {near[0]!r}?' if near else ''
    raise ValueError(
        f'{field} must name one column of the frame, of '
        f'{", ".join(map(str, columns[:40]))}; got {name!r}, which '
        f'{columns.count(name)} have.{hint}')
  return df[name]


def _check_present(label: str, values: np.ndarray) -> None:
  if values.dtype != object and values.dtype.kind != 'f':
    return
  missing = ([i for i, value in enumerate(values) if is_missing_entry(value)]
             if values.dtype == object else np.flatnonzero(np.isnan(values)))
  if len(missing):
    raise ValueError(
        f'{label} has no value in row {missing[0]} (from 0), and in '
        f'{len(missing):,} of {len(values):,}: drop these rows or fill them.')


def is_missing_entry(value: Any) -> bool:
  """`is_missing` of what a column holds, which may be an array."""
  return not isinstance(value, Sequence | np.ndarray) and is_missing(value)


def _ids(df: Any, client: Hashable) -> np.ndarray | list:
  """The clients' names or numbers, one for each row."""
  ids = _series(df, 'client', client)
  values = ids.to_numpy()
  if values.dtype.kind == 'f' and np.all(values == np.floor(values)):
    # How pandas holds whole numbers once one of the column was missing.
    return values.astype(np.int64)
  return ids.tolist()

"""Devices of a table: a CSV or npz file with a row, or an entry, a client.

Columns, of a CSV by its header, of an npz file by name:

    step_seconds   seconds of a local step, positive
    down_bps       bits a second that the client receives, positive
    up_bps         bits a second that it sends, positive
    fail_before, fail_training, fail_after   probabilities; may be left out
    training_watts, radio_watts   positive; may be left out, both

When clients are eligible is in further entries of an npz file, or in a CSV file
of its own, with a row for each interval:

    client   the client's row, from 0
    start    seconds, at least 0
    end      seconds, after the start

They repeat with `period` seconds. A client without an interval is never
eligible.
"""

import csv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedjax_sim.core import checks, random
from fedjax_sim.systems import draws
from fedjax_sim.systems.availability import DAY, Windows, from_intervals
from fedjax_sim.systems.columns import FRACTION, POSITIVE, Rule, column
from fedjax_sim.systems.profiles import Failures, Population, Profiles

_NEEDED = ('step_seconds', 'down_bps', 'up_bps')
_FAILS = ('fail_before', 'fail_training', 'fail_after')
_WATTS = ('training_watts', 'radio_watts')
_INTERVALS = ('client', 'start', 'end')
_OF_WINDOWS = (*_INTERVALS, 'period')
_KNOWN = (*_NEEDED, *_FAILS, *_WATTS, *_OF_WINDOWS)
# The first row of a CSV below its header, as editors count.
_FIRST_ROW = 2


def table(
    path: str, windows: str = '', *, period: float = DAY, shuffle: bool = False,
    seed: int | None = None,
) -> Population:
  """The devices of a file; this module's docstring has the columns.

  Args:
    path: a CSV or npz file. Of more rows than there are clients, the first are
      taken.
    windows: a CSV file of intervals of eligibility; '' for those in the npz
      file, if there are any, and else for clients that are always eligible.
    period: seconds after which intervals repeat; an npz file's own `period`
      comes first.
    shuffle: whether the rows are taken in a random order, without replacement.
    seed: of that order; None follows the run's.

  Raises:
    ValueError: a file can't be read, a column is missing, unknown or has a
      wrong value, or there are fewer rows than clients.
  """
  checks.positive('period', period)
  if seed is not None:
    random.seed('seed', seed)
  columns = _read(path)
  _only(path, columns, _KNOWN)
  first_row = 0 if path.endswith('.npz') else _FIRST_ROW
  devices = _devices(path, columns, first_row)
  count = len(devices.step_seconds)
  intervals = _intervals(path, windows, columns, period, count)

  def make(num_clients: int, run_seed: int) -> Profiles:
    if count < num_clients:
      raise ValueError(f'systems must have a row for each of the {num_clients} '
                       f'clients, {path} has {count}.')
    rows = np.arange(count)
    if shuffle:
      rows = draws.generator(run_seed if seed is None else seed,
                             'rows').permutation(count)
    return _taken(devices, intervals, rows[:num_clients])

  return Population(make)


def _read(path: str) -> dict[str, np.ndarray]:
  """Column -> values; text in a CSV file."""
  if not Path(path).is_file():
    raise ValueError(f'path must be a CSV or npz file, there is none at '
                     f'{path!r}.')
  kind = 'an npz' if path.endswith('.npz') else 'a CSV'
  try:
    if kind == 'an npz':
      with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
    with open(path, newline='') as file:
      lines = list(csv.reader(file))
  except (OSError, ValueError, csv.Error, zipfile.BadZipFile) as error:
    raise ValueError(f"{path} can't be read as {kind} file: {error}."
                     ) from error
  return _columns(path, lines)


def _columns(path: str, lines: list[list[str]]) -> dict[str, np.ndarray]:
  """Of the lines of a CSV file."""
  header, *rows = lines or [[]]
  names = [name.strip() for name in header]
  for i, row in enumerate(rows):
    if len(row) != len(names):
      raise ValueError(
          f'{path} must have {len(names)} values in each row, as in '
          f'its header, got {len(row)} in row {i + _FIRST_ROW}.')
  return dict(zip(names, np.array(rows, str).reshape(-1, len(names)).T,
                  strict=True))


def _devices(
    path: str, columns: Mapping[str, np.ndarray], first_row: int
) -> Profiles:
  """All rows, without windows."""
  _need(path, columns, _NEEDED)
  positive = lambda name: column(
      name, columns[name], POSITIVE, path, first_row)
  watts = [None, None]
  if any(name in columns for name in _WATTS):
    _need(path, columns, _WATTS)
    watts = [positive(name) for name in _WATTS]
  needed = [positive(name) for name in _NEEDED]
  fails = [column(name, columns[name], FRACTION, path, first_row)
           if name in columns else np.zeros(len(needed[0])) for name in _FAILS]
  lengths = {len(x) for x in (*needed, *fails)}
  if len(lengths) > 1:
    raise ValueError(f'{path}: columns must have the same length, got '
                     f'{sorted(lengths)}.')
  lossy = Failures(*fails) if np.any(fails) else None
  return Profiles(*needed, lossy, None, *watts)


def _need(path: str, columns: Mapping[str, np.ndarray], names) -> None:
  for name in names:
    if name not in columns:
      raise ValueError(f'{path} must have a column {name}, it has '
                       f'{", ".join(columns) or "none"}.')


def _only(path: str, columns: Mapping[str, np.ndarray], known) -> None:
  """ValueError for a column that nothing reads, such as a misspelt one."""
  for name in columns:
    checks.one_of(f'each column of {path}', name, known)


def _intervals(
    path: str, windows: str, columns: Mapping[str, np.ndarray], period: float,
    count: int,
) -> tuple[np.ndarray, ...] | None:
  """(client, start, end, period of each client); None for always."""
  first_row = 0
  if windows:
    path, columns, first_row = windows, _read(windows), _FIRST_ROW
    _only(path, columns, _OF_WINDOWS)
  elif not any(name in columns for name in _INTERVALS):
    return None
  _need(path, columns, _INTERVALS)
  own = np.atleast_1d(columns.get('period', period))
  if own.size not in (1, count):
    raise ValueError(f'{path}: period must be one number, or one for each of '
                     f'the {count} rows, got {own.size}.')
  periods = np.broadcast_to(
      column('period', own, POSITIVE, path, first_row), count)
  read = lambda name, words, holds: column(
      name, columns[name], Rule(words, holds), path, first_row)
  client = read('client', f'a row from 0 to {count - 1}', lambda x: (
      (x >= 0) & (x < count) & (x == np.floor(x)))).astype(np.int64)
  own = periods[client]
  start = read('start', 'at least 0 and below the period',
               lambda x: (x >= 0) & (x < own))
  end = read('end', 'after the start, by at most a period',
             lambda x: (x > start) & (x - start <= own))
  return client, start, end, periods


def _taken(
    devices: Profiles, intervals: tuple[np.ndarray, ...] | None,
    rows: np.ndarray,
) -> Profiles:
  """The profiles of some rows, in this order."""
  take = lambda x: None if x is None else x[rows]
  lossy = devices.failures and Failures(*map(take, devices.failures))
  return Profiles(
      *map(take, devices[:3]), lossy, _windows_of(intervals, rows),
      *map(take, devices[5:]))


def _windows_of(
    intervals: tuple[np.ndarray, ...] | None, rows: np.ndarray
) -> Windows | None:
  if intervals is None:
    return None
  client, start, end, periods = intervals
  places = np.full(len(periods), -1)
  places[rows] = np.arange(len(rows))
  here = places[client] >= 0
  return from_intervals(places[client[here]], start[here], end[here],
                        periods[rows], len(rows))

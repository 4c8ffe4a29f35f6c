"""Tables and sentences about what has been run, from the result file alone."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.communication import curves as curves_lib
from benchmarks.communication.store import Line
from benchmarks.communication.tasks import Task

Lines = Mapping[tuple[str, str, str], Line]


def finished(task: Task, lines: Lines) -> dict[str, Line]:
  """Entry -> its curves, of those that have run with all seeds."""
  names = [entry.name for entry in task.entries]
  return {name: lines[task.name, name, 'seeds'] for name in names
          if (task.name, name, 'seeds') in lines}


def found(line: Line, target: float, axis: str) -> tuple[float, float, float]:
  """(median, min, max) over seeds of what a target takes."""
  return curves_lib.summary([
      curves_lib.crossing(one, target, axis) for one in line['curves']])


def fewer(first: Line, line: Line, target: float, axis: str) -> float:
  """How many times less than the first entry's median; 0 if it can't be told.
  """
  whole, own = found(first, target, axis)[0], found(line, target, axis)[0]
  return whole / own if np.isfinite(whole) and np.isfinite(own) else 0.0


def by_bytes(task: Task, lines: Lines) -> str:
  """A row for each entry: bytes to the targets, and the best accuracy."""
  low, high = task.targets
  done = finished(task, lines)
  first = next(iter(done.values()))
  columns = ('', 'rate', f'rounds to {high:.0%}', 'MB up', 'times fewer',
             'MB up and down', 'times fewer',
             f'times fewer at {low:.0%}: up', 'up and down', 'best accuracy')
  rows = []
  for name, line in done.items():
    times = [_times(fewer(first, line, target, axis)) for target, axis in (
        (high, 'up'), (high, 'both'), (low, 'up'), (low, 'both'))]
    rows.append((
        name, _rate(line, lines.get((task.name, name, 'search'))),
        spread(found(line, high, 'round'), _whole),
        spread(found(line, high, 'up'), _mega), times[0],
        spread(found(line, high, 'both'), _mega), times[1], *times[2:],
        f'{np.median(list(map(curves_lib.best, line["curves"]))):.2%}'))
  return markdown(columns, rows)


def by_time(task: Task, lines: Lines) -> str:
  """A row for each entry: simulated hours to the targets."""
  low, high = task.targets
  done = finished(task, lines)
  first = next(iter(done.values()))
  rows = []
  for name, line in done.items():
    rows.append((
        name, _rate(line, lines.get((task.name, name, 'search'))),
        spread(found(line, high, 'round'), _whole),
        spread(found(line, low, 'seconds'), _hours),
        _times(fewer(first, line, low, 'seconds')),
        spread(found(line, high, 'seconds'), _hours),
        _times(fewer(first, line, high, 'seconds')),
        spread(found(line, high, 'up'), _mega)))
  return markdown((
      '', 'rate', f'server steps to {high:.0%}', f'hours to {low:.0%}',
      'times faster', f'hours to {high:.0%}', 'times faster',
      f'MB up to {high:.0%}'), rows)


def beside(
    task: Task, lines: Lines, target: float, other: str
) -> str:
  """How many times faster than another entry those after it are."""
  done = finished(task, lines)
  if other not in done:
    return ''
  names = list(done)[list(done).index(other) + 1:]
  told = [f'{name}: {_times(fewer(done[other], done[name], target, "seconds"))}'
          for name in names]
  return (f'Times faster than {other} to {target:.0%}: {"; ".join(told)}.'
          if told else '')


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table whose first column is text."""
  return '\n'.join(
      [f'| {" | ".join(columns)} |', '|---|' + '--:|' * (len(columns) - 1),
       *(f'| {" | ".join(row)} |' for row in rows)])


def best(task: Task, lines: Lines, target: float, axis: str) -> str:
  """The entry with the least median, and how much less than the first.

  Empty where the first one does not get to the target.
  """
  done = finished(task, lines)
  first = next(iter(done.values()))
  times = {name: fewer(first, line, target, axis)
           for name, line in done.items()}
  name = max(times, key=times.get)
  return f'`{name}`, {_times(times[name])} times' if times[name] else ''


def missing(task: Task, lines: Lines) -> str:
  """A sentence about what has not been run."""
  done = finished(task, lines)
  names = [f'`{entry.name}`' for entry in task.entries
           if entry.name not in done]
  return f'Not run yet: {", ".join(names)}.' if names else ''


def origin(task: Task, lines: Lines) -> str:
  """Machine, versions, and when."""
  done = list(finished(task, lines).values())
  own, dates = done[-1]['environment'], sorted({line['date'] for line in done})
  return (f'{own["machine"]}, jax {own["versions"]["jax"]}, '
          f'{" to ".join(dict.fromkeys((dates[0], dates[-1])))}.')


def spread(
    values: tuple[float, float, float], text: Callable[[float], str]
) -> str:
  """Median, and range where there is one."""
  middle, least, most = (
      text(x) if np.isfinite(x) else 'never' for x in values)
  return middle if least == most else f'{middle} ({least} to {most})'


def _rate(line: Line, search: Line | None) -> str:
  """The rate that was chosen, with a star at an end of the grid."""
  tried = search['settings'] if search else []
  name = 'server_lr' if 'server_lr' in line['setting'] else 'client_lr'
  values = [setting[name] for setting in tried]
  value = line['setting'][name]
  return f'{value:g}' + '*' * (value in values[:1] + values[-1:])


def _times(factor: float) -> str:
  if not factor:
    return '-'
  return f'{factor:.0f}' if factor >= 20 else f'{factor:.1f}'


def _whole(x: float) -> str:
  return f'{x:.0f}'


def _mega(x: float) -> str:
  x /= 1e6
  return f'{x:,.0f}' if x >= 10 else f'{x:.1f}'


def _hours(x: float) -> str:
  return f'{x / 3600:.{2 if x >= 3600 else 3}f}'

"""The table and the plot of a sweep."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fedjax_sim.core import files
from fedjax_sim.experiment import (
    closing_time,
    headline,
    loop,
    metrics,
    plot_axes,
    plots,
    privacy_told,
    reporting,
    results,
    sweep_costs,
    sweep_spread,
    workdir,
)
from fedjax_sim.experiment.sweep_group import folder_of
from fedjax_sim.simulation.records import Record


def write(
    folder: Path, curves: Mapping[str, str], rounds: Mapping[str, int],
    targets: Sequence[float], *, held_out: bool,
) -> None:
  """Prints the table and writes it to sweep.txt, draws sweep.png.

  Args:
    folder: of the sweep.
    curves: a run's label -> the name of its curve; runs of one name are drawn
      as their median.
    rounds: a run's label -> its rounds, if it has not diverged.
    targets: test accuracies.
    held_out: whether clients have test examples of their own.
  """
  files_of = {label: folder_of(folder, label) for label in curves}
  records = {label: metrics.read(path / loop.METRICS_FILE)
             for label, path in files_of.items()}
  stated = {name: higher for path in files_of.values()
            for name, higher in results.directions(path).items()}
  told = headline.of(itertools.chain(*records.values()), stated)
  if told is None or told.name != 'test/accuracy':
    targets = ()
  costs = sweep_costs.columns(list(records.values())) | (
      privacy_told.columns(list(files_of.values())))
  lines = [('run', 'rounds', 'best', 'final', *(f'to {t:.1%}' for t in targets),
            *costs, *(("clients' own", 'worst tenth') if held_out else ()))]
  for i, (label, path) in enumerate(files_of.items()):
    lines.append((
        label, *_outcome(records[label], rounds[label], targets, told),
        *(column[i] for column in costs.values()),
        *(_of_clients(path) if held_out else ())))
  text = reporting.table(lines)
  spread = told and sweep_spread.lines(curves, rounds, records, told)
  if spread:
    text += f'\n\n{reporting.table(spread)}'
  print(text)
  with files.replacing(folder / 'sweep.txt') as file:
    file.write(f'{text}\n'.encode())
  if told is not None:
    _draw(folder, curves, records, told, targets)


def _draw(
    folder: Path, curves: Mapping[str, str],
    records: Mapping[str, list[Record]], told: headline.Headline,
    targets: Sequence[float],
) -> None:
  """sweep.png, with the median of the runs of one name, by bytes and time."""
  drawn = {}
  for label, name in curves.items():
    drawn.setdefault(name, []).append(records[label])
  title = folder.name
  if any(len(runs) > 1 for runs in drawn.values()):
    title += ', median over seeds'
  drawn = {name: median(runs, told.name) for name, runs in drawn.items()}
  drawn = {name: curve for name, curve in drawn.items() if curve}
  if drawn:
    draw = functools.partial(
        plots.curves, drawn, metric=told.name, targets=targets, title=title,
        best=False)
    draw(folder / 'sweep.png')
    sent = [plot_axes.places(x, 'bytes_up')[-1] for x in drawn.values()]
    if min(sent) < max(sent):  # Never so where it is not known, a NaN.
      draw(folder / 'sweep_by_bytes.png', axis='bytes_up')
    ends = [plot_axes.places(x, 'simulated_seconds')[-1]
            for x in drawn.values()]
    if np.isfinite(ends).any():
      draw(folder / 'sweep_by_time.png', axis='simulated_seconds')


def median(
    runs: Sequence[list[Record]], metric: str = 'test/accuracy'
) -> list[Record]:
  """A metric over runs, in the rounds that all of them evaluated.

  With the bytes since the one before, of medians, and the median of simulated
  time, where all records tell them.
  """
  tested = [{record['round']: record[metric] for record in records
             if record.get(metric) is not None} for records in runs]
  shared = set(tested[0]).intersection(*tested[1:])
  middle = lambda r: float(np.median([t[r] for t in tested]))
  rows = [{'round': r, metric: middle(r)} for r in sorted(shared)]
  for field in ('bytes_up', 'bytes_down', 'simulated_seconds'):
    known = [dict(zip((one['round'] for one in records),
                      plot_axes.places(records, field), strict=True))
             for records in runs]
    total = np.median([[at[row['round']] for row in rows] for at in known], 0)
    if np.all(np.isfinite(total)):
      if plot_axes.PLOT_AXES[field].summed:
        total = np.diff(total, prepend=0)
      for row, value in zip(rows, total, strict=True):
        row[field] = float(value)
  return rows


def _of_clients(folder: Path) -> tuple[str, str]:
  """Mean and 10th percentile of the clients' own accuracies."""
  found = workdir.read_json(folder / results.CLIENTS_FILE) or {}
  return tuple(f'{found[name]:.4f}' if found.get(name) is not None else '-'
               for name in ('accuracy/mean', 'accuracy/p10'))


def _outcome(
    records: Sequence[Record], rounds: int, targets: Sequence[float],
    told: headline.Headline | None,
) -> list[str]:
  """Rounds done, best and final value, rounds to each target accuracy."""
  done = records[-1]['round'] if records else 0
  text = f'{done}' if done >= rounds else f'diverged after {done}'
  if closing_time.all_failed([one for one in records if one['round'] > 0]):
    text += ', all failed'
  values = [r[told.name] for r in told.tested(records)] if told else []
  if not values:
    return [text, '-', '-', *('-' for _ in targets)]
  return [text, f'{values[told.best(values)]:.4f}', f'{values[-1]:.4f}',
          *(reporting.rounds_to(records, target) for target in targets)]

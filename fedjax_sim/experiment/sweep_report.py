"""The table and the plot of a sweep."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fedjax_sim.core import files
from fedjax_sim.experiment import (
  headline,
  loop,
  metrics,
  plot_axes,
  plots,
  reporting,
  results,
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
  lines = [('run', 'rounds', 'best', 'final', *(f'to {t:.1%}' for t in targets),
            *(("clients' own", 'worst tenth') if held_out else ()))]
  for label, path in files_of.items():
    lines.append((
        label, *_outcome(records[label], rounds[label], targets, told),
        *(_of_clients(path) if held_out else ())))
  text = reporting.table(lines)
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
  """sweep.png and others, with the median of the runs of one name."""
  drawn = {}
  for label, name in curves.items():
    drawn.setdefault(name, []).append(records[label])
  title = folder.name
  if any(len(runs) > 1 for runs in drawn.values()):
    title += ', median over seeds'
  drawn = {name: median(runs, told.name) for name, runs in drawn.items()}
  drawn = {name: curve for name, curve in drawn.items() if curve}
  every = [record for curve in drawn.values() for record in curve]
  for x in ('round', *plot_axes.known(every)) if drawn else ():
    ending = plot_axes.ENDINGS.get(x, '')
    plots.curves(drawn, folder / f'sweep{ending}.png', told.name,
                 targets=targets, title=title, best=False, x=x)


def median(
    runs: Sequence[list[Record]], metric: str = 'test/accuracy'
) -> list[Record]:
  """A metric over runs, in the rounds that all of them evaluated.

  With the median of whatever else it may be drawn against.
  """
  tested = [{record['round']: record for record in records
             if record.get(metric) is not None} for records in runs]
  shared = set(tested[0]).intersection(*tested[1:])
  names = [metric, *(x for x in plot_axes.ENDINGS if all(
      x in plot_axes.known(records) for records in runs))]
  middle = lambda name, r: float(np.median([t[r][name] for t in tested]))
  return [{'round': r, **{name: middle(name, r) for name in names}}
          for r in sorted(shared)]


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
  values = [r[told.name] for r in told.tested(records)] if told else []
  if not values:
    return [text, '-', '-', *('-' for _ in targets)]
  return [text, f'{values[told.best(values)]:.4f}', f'{values[-1]:.4f}',
          *(reporting.rounds_to(records, target) for target in targets)]

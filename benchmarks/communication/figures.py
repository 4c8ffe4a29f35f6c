"""Curves of best accuracies so far, against bytes and simulated time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.communication import curves as curves_lib
from benchmarks.communication import tables
from benchmarks.communication.store import Line
from benchmarks.communication.tasks import Task
from fedjax_sim.core import files

_LABELS = {'up': 'MB that all clients have sent',
           'both': 'MB sent and received'}


def by_bytes(
    task: Task, lines: tables.Lines, path: Path, bottom: float
) -> None:
  """A row a family, with the first entry in each, against both kinds of bytes.

  Nothing is drawn of the first entry alone.

  Args:
    task: what was run.
    lines: the results.
    path: the PNG to write.
    bottom: the least accuracy that is shown.
  """
  done = tables.finished(task, lines)
  families = {}
  for entry in task.entries:
    if entry.family and entry.name in done:
      families.setdefault(entry.family, []).append(entry.name)
  if not families:
    return
  first = task.entries[0].name
  figure = _figure(10, 2.9 * len(families))
  for panels, (family, names) in zip(
      figure.subplots(len(families), 2, squeeze=False, sharex='col'),
      families.items(), strict=True):
    for panel, (axis, label) in zip(panels, _LABELS.items(), strict=True):
      for name in [first, *names]:
        _draw(panel, done[name]['curves'], axis, name, 1e6,
              **{'color': 'k'} if name == first else {})
      panel.set_xscale('log')
      _style(panel, label, bottom, task.targets)
    panels[0].set_title(family, loc='left', fontsize=10)
    panels[1].legend(fontsize=7, frameon=False, loc='center left',
                     bbox_to_anchor=(1, 0.5))
  _save(figure, path)


def by_time(
    task: Task, lines: tables.Lines, path: Path, bottom: float
) -> None:
  """All entries against simulated hours; arguments as above."""
  done = tables.finished(task, lines)
  figure = _figure(7.5, 4.2)
  panel = figure.subplots()
  for name, line in done.items():
    _draw(panel, line['curves'], 'seconds', name, 3600)
  panel.set_xscale('log')
  _style(panel, 'simulated hours', bottom, task.targets)
  panel.legend(fontsize=8, frameon=False, loc='lower right')
  _save(figure, path)


def _draw(
    panel, curves: Sequence[Line], axis: str, name: str, unit: float, **style
) -> None:
  """Median and range over seeds, as far as all have got."""
  length = min(len(one['round']) for one in curves)
  if not length:
    return
  best = np.maximum.accumulate(
      [one['accuracy'][:length] for one in curves], axis=1)
  x = np.median([curves_lib.along(one, axis)[:length] for one in curves],
                axis=0) / unit
  (line,) = panel.plot(x, np.median(best, axis=0), lw=1.2, label=name, **style)
  panel.fill_between(x, best.min(axis=0), best.max(axis=0), lw=0, alpha=0.12,
                     color=line.get_color())


def _style(panel, label: str, bottom: float, targets: Sequence[float]) -> None:
  panel.set_ylim(bottom, max(targets) + 0.1 * (max(targets) - bottom))
  for target in targets:
    panel.axhline(target, color='0.6', lw=0.6)
  panel.set_xlabel(label, fontsize=8)
  panel.set_ylabel('test accuracy, best so far', fontsize=8)
  panel.tick_params(labelsize=8)
  panel.grid(alpha=0.2)


def _figure(width: float, height: float):
  from matplotlib.figure import Figure  # Here: it takes a second.
  return Figure(figsize=(width, height), layout='constrained', dpi=110)


def _save(figure, path: Path) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as file:
    figure.savefig(file, format='png', metadata={'Software': None})

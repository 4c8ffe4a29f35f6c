"""The mean over seeds of what a sweep's runs have reached, and its spread."""

from collections.abc import Mapping, Sequence

import numpy as np

from fedjax_sim.experiment import headline
from fedjax_sim.simulation.records import Record


def lines(
    curves: Mapping[str, str], rounds: Mapping[str, int],
    records: Mapping[str, Sequence[Record]], told: headline.Headline,
) -> list[tuple[str, ...]]:
  """A row for each setting of which several runs have finished.

  The spread is the standard deviation of a sample, with n - 1 in it.

  Args:
    curves: a run's label -> the name of its setting.
    rounds: a run's label -> its rounds, if it has not diverged.
    records: a run's label -> its records.
    told: the metric.

  Returns:
    With a heading; [] if there is no such setting.
  """
  values = {}
  for label, name in curves.items():
    tested = [one[told.name] for one in told.tested(records[label])]
    if tested and records[label][-1]['round'] >= rounds[label]:
      values.setdefault(name, []).append(
          (tested[told.best(tested)], tested[-1]))
  rows = [(name, f'{len(own)}', *map(_spread, zip(*own, strict=True)))
          for name, own in values.items() if len(own) > 1]
  heading = ('mean and deviation over seeds', 'runs', 'best', 'final')
  return [heading, *rows] if rows else []


def _spread(values: Sequence[float]) -> str:
  return f'{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}'

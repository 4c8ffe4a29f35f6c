"""Accuracy against rounds, bytes and simulated time: curves and crossings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_sim.experiment import metrics
from fedjax_sim.simulation.records import Record

# Axis -> the curve's columns whose sum it is.
AXES = {'round': ('round',), 'up': ('up',), 'both': ('up', 'down'),
        'seconds': ('seconds',)}

# Columns of one length: round, accuracy, up and down (bytes of all clients, of
# all rounds so far), and seconds (simulated) where rounds take time.
Curve = Mapping[str, Sequence[float]]


def curve(records: Sequence[Record]) -> Curve:
  """The points at which a run was evaluated.

  Args:
    records: of rounds 1, 2, …
  """
  found: dict[str, list[float]] = {
      'round': [], 'accuracy': [], 'up': [], 'down': []}
  up = down = 0.0
  for record in records:
    up, down = up + record['bytes_up'], down + record['bytes_down']
    if record.get('test/accuracy') is None:
      continue
    point = {'round': record['round'], 'up': round(up), 'down': round(down),
             'accuracy': round(record['test/accuracy'], 5)}
    if 'simulated_seconds' in record:
      point['seconds'] = round(record['simulated_seconds'], 2)
    for name, value in point.items():
      found.setdefault(name, []).append(value)
  return found


def along(one: Curve, axis: str) -> np.ndarray:
  """Float [n], where a curve's points lie on an axis of `AXES`."""
  return np.sum([one[name] for name in AXES[axis]], axis=0, dtype=float)


def crossing(one: Curve, target: float, axis: str) -> float | None:
  """What a run has taken when its accuracy is first at a target.

  The round is that of `metrics.rounds_to_target`, between two evaluations; the
  axis is interpolated between the same two, from nothing at round 0.

  Args:
    one: the curve.
    target: an accuracy.
    axis: of `AXES`.

  Returns:
    Rounds, bytes or seconds; None if the target is not reached.
  """
  if not one['round']:
    return None
  number = metrics.rounds_to_target(one['round'], one['accuracy'], target)
  if number is None:
    return None
  return float(np.interp(
      number, [0, *one['round']], [0, *along(one, axis)]))


def best(one: Curve) -> float:
  """The best accuracy; 0 of a run without any."""
  return max(one['accuracy'], default=0.0)


def best_of_seeds(curves: Sequence[Curve]) -> float:
  """The median."""
  return float(np.median([best(one) for one in curves]))


def summary(found: Sequence[Any]) -> tuple[float, float, float]:
  """(median, min, max) over seeds; None counts as infinite."""
  values = sorted(np.inf if x is None else x for x in found)
  middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
  return middle, values[0], values[-1]

"""What a record says about its cell: best rate, median, spread, curve.

Rounds to a target come from `experiment.metrics.rounds_to_target`. Over seeds
the median is told, with the range; a seed that has not crossed counts as
infinitely many rounds.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.paper.cells import Cell


def target_name(target: float) -> str:
  """A target as the store writes it: 0.97."""
  return f'{target:g}'


def median(crossings: Sequence[float | None]) -> float:
  """Over seeds; None is infinite. Infinite where there are no seeds."""
  return statistics.median(_finite_or_inf(crossings)) if crossings else math.inf


def best(
    rates: Mapping[str, Mapping[str, Any]], targets: Sequence[float]
) -> dict[str, Any]:
  """The fields `best_rate` and `crossings` of a record, from its `rates`.

  For each target the rate with the least median crossing; where none has
  crossed, the one with the highest median of the best accuracies, and of those
  that did not diverge if there is one.

  Args:
    rates: as in the store, at least one.
    targets: test accuracies.
  """
  chosen = {}
  for name in map(target_name, targets):
    chosen[name] = min(rates, key=lambda rate, name=name: (
        median(rates[rate]['crossings'][name]),
        rates[rate]['stopped'] == 'diverged',
        -statistics.median(a or 0 for a in rates[rate]['best_accuracy'])))
  return {
      'best_rate': chosen,
      'crossings': {name: list(rates[rate]['crossings'][name])
                    for name, rate in chosen.items()}}


def thin(
    rate: str,
    rounds: Sequence[int],
    test_accuracy: Any,
    train_loss: Any,
    most: int = 300,
) -> dict[str, Any]:
  """The field `curve` of a record: at most so many points, evenly spaced.

  A point's accuracy is the best since the point before, so that the curve made
  monotone goes through the same values as that of all evaluations. Its loss is
  that of its round. Both are rounded to six digits, so that a store of many
  cells stays small; NaN and infinity become None.

  Args:
    rate: the learning rate.
    rounds: [R] of the evaluations.
    test_accuracy: [S, R].
    train_loss: [S, R].
    most: how many points are kept.

  Raises:
    ValueError: the lengths differ, or there is no evaluation.
  """
  accuracy, loss = np.array(test_accuracy, float), np.array(train_loss, float)
  if not len(rounds) or {accuracy.shape[1:], loss.shape[1:]} != {
      (len(rounds),)}:
    raise ValueError(
        'rounds [R], test_accuracy and train_loss [S, R] must have the same R '
        f'>= 1, got {len(rounds)}, {accuracy.shape}, {loss.shape}.')
  kept = np.unique(np.linspace(
      0, len(rounds) - 1, min(most, len(rounds))).astype(int))
  starts = np.concatenate([[0], kept[:-1] + 1])
  # fmax passes over NaN.
  accuracy = np.fmax.reduceat(accuracy, starts, axis=1)
  return {
      'rate': rate, 'rounds': [int(rounds[i]) for i in kept],
      'test_accuracy': _plain(accuracy), 'train_loss': _plain(loss[:, kept])}


class Result(NamedTuple):
  """What is known of a cell and one of its targets, in the tables' unit.

  Attributes:
    state: 'not run', 'partial' or 'done'.
    median: over seeds, `math.inf` where it is not reached.
    low, high: over seeds; high is infinite where a seed did not cross.
    seeds: how many.
    rounds: how many were run at the best rate.
    rate: the best; None if the cell was not run.
    tried: the rates, ascending, those that diverged marked so.
    diverged: the best rate did, so all did.
  """

  state: str
  median: float = math.inf
  low: float = math.inf
  high: float = math.inf
  seeds: int = 0
  rounds: int = 0
  rate: str | None = None
  tried: tuple[str, ...] = ()
  diverged: bool = False

  @property
  def reached(self) -> bool:
    return self.median < math.inf


def of(cell: Cell, record: Mapping[str, Any] | None, target: float) -> Result:
  """Reads a cell's record; None stands for a cell that was not run."""
  if record is None:
    return Result('not run')
  name, rates = target_name(target), record['rates']
  tried = record.get('search', record)['rates']
  rate = record['best_rate'][name]
  crossings = [cell.unit * c
               for c in _finite_or_inf(record['crossings'][name])]
  return Result(
      record['state'], median(crossings), min(crossings), max(crossings),
      len(crossings), cell.unit * rates[rate]['rounds'], rate,
      tuple(_tried(r, tried[r]) for r in sorted(tried, key=float)),
      rates[rate]['stopped'] == 'diverged')


def text(result: Result) -> str:
  """In words: median (range, seeds), or what is missing."""
  if result.state == 'not run':
    return 'not run'
  so_far = ' so far' if result.state == 'partial' else ''
  seeds = f'{result.seeds} seed{"s" if result.seeds > 1 else ""}'
  if result.reached:
    spread = f'{number(result.low)} to {number(result.high)}, '
    at_most = 'at most ' if so_far else ''
    return (f'{at_most}{number(result.median)}{so_far} '
            f'({spread if result.seeds > 1 else ""}{seeds})')
  if result.diverged:
    return f'every rate diverged{so_far} ({seeds})'
  if so_far:
    return f'more than {number(result.rounds)} so far ({seeds})'
  return f'not reached in {number(result.rounds)} ({seeds})'


def number(rounds: float) -> str:
  """A number of rounds: one decimal below 100, none above."""
  if rounds == math.inf:
    return 'never'
  digits = 1 if rounds < 100 and rounds != int(rounds) else 0
  return f'{rounds:,.{digits}f}'


def _tried(rate: str, outcome: Mapping[str, Any]) -> str:
  return rate + (' diverged' if outcome['stopped'] == 'diverged' else '')


def _finite_or_inf(crossings: Sequence[float | None]) -> list[float]:
  return [math.inf if c is None else c for c in crossings]


def _plain(values: np.ndarray) -> list[list[float | None]]:
  return [[float(f'{v:.6g}') if math.isfinite(v) else None for v in row]
          for row in values.tolist()]

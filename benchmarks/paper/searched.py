"""A cell whose best rate was searched with some seeds, and run with others."""

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.paper import results

# Of two ends of a rate the one that is told.
_ENDS = ('running', 'limit', 'beaten', 'reached', 'diverged')


def added(found: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
  """The fields of a record that seeds of a search and further ones make up.

  Args:
    found: the record of the search.
    more: one of the same cell at the best rate alone, with other seeds.

  Returns:
    `seeds`, `rates`, `best_rate`, `crossings`, `curve`, `seconds` of all seeds,
    and `search`, the seeds and rates of the search.
  """
  (rate, outcome), = more['rates'].items()
  known = found['rates'][rate]
  rates = {rate: {
      'rounds': max(known['rounds'], outcome['rounds']),
      'crossings': {name: known['crossings'][name] + crossings
                    for name, crossings in outcome['crossings'].items()},
      'stopped': min(known['stopped'], outcome['stopped'], key=_ENDS.index),
      'best_accuracy': known['best_accuracy'] + outcome['best_accuracy']}}
  targets = found['targets']
  return {
      'seeds': found['seeds'] + more['seeds'], 'rates': rates,
      **results.best(rates, targets), 'curve': _side_by_side(
          rate, found['curve'], more['curve']),
      'seconds': round(found['seconds'] + more['seconds'], 1),
      'search': {'seeds': found['seeds'], 'rates': found['rates']}}


def _side_by_side(rate: str, *curves: Mapping[str, Any]) -> dict[str, Any]:
  """One curve of all seeds; rounds that a curve has not kept are unknown."""
  length = max(curve['rounds'][-1] for curve in curves)
  filled = lambda name: [
      _spread(curve['rounds'], values, length)
      for curve in curves for values in curve[name]]
  return results.thin(rate, range(1, length + 1), filled('test_accuracy'),
                      filled('train_loss'))


def _spread(rounds: list[int], values: list, length: int) -> list[float]:
  known = dict(zip(rounds, values, strict=True))
  return [math.nan if known.get(r) is None else known[r]
          for r in range(1, length + 1)]

"""What the store says about cells that are still to be run.

Where the search of a cell's best rate begins, how long it will take, and in
which order to run cells. None of it changes what is found: a search goes on
until the best rate lies inside the rates that were tried.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.paper import grid
from benchmarks.paper.cells import BY_KEY, Cell, centered
from benchmarks.paper.results import target_name
from benchmarks.paper.store import Record

# Where the search begins of a model of which the store knows nothing.
CENTRES = {'mnist_2nn': 0.1, 'mnist_cnn': 0.2154, 'shakespeare_lstm': 1.0,
           'cifar_cnn': 0.1, 'word_lstm': 10.0}
# Three coarse rates and the two beside the best.
RATES = 5
# A cell that was begun comes first if no more than this is left of it.
BEGUN_FIRST_MINUTES = 60.0
# Seconds a floating-point operation of a machine without finished cells.
_SECONDS_PER_OPERATION = 1e-11

_ALL = BY_KEY | {cell.key: cell for cell in centered(list(BY_KEY.values()))}
# What cells share whose best rates are alike: the first of these that finished
# cells share with the one to be run. One client a round wants smaller rates.
_LIKENESS: tuple[Callable[[Cell], Any], ...] = (
    lambda c: c.key,
    lambda c: (c.model, c.pixels, c.B, c.partition, c.cohort == 1),
    lambda c: (c.model, c.pixels, c.B, c.partition),
    lambda c: (c.model, c.pixels, c.B),
    lambda c: (c.model, c.B))


def centre(cell: Cell, records: Mapping[str, Record]) -> str:
  """The coarse rate where the search begins.

  The median of the best rates of the finished cells that are most like it,
  rounded down to the coarse grid: above the best rate rounds grow faster than
  below.
  """
  best = {key: grid.index(_best_rate(record))
          for key, record in records.items() if _finished(key, record)}
  for kind in _LIKENESS:
    own = [k for key, k in best.items()
           if k is not None and kind(_ALL[key]) == kind(cell)]
    if own:
      return grid.rate(2 * math.floor(statistics.median(own) / 2))
  return grid.first_rates(CENTRES[cell.model], 1)[0]


def minutes(
    cell: Cell, records: Mapping[str, Record], device: str,
    seeds: int = 3, rates: int = RATES,
) -> float:
  """How long a cell will take that has not been begun, within a factor of two.

  Proportional to the examples of a round, the paper's rounds, seeds and rates.
  The factor is the median of this device's finished cells of the same model
  and partition, or else of the same model, of all models by their operations.

  Args:
    cell: the cell.
    records: those of the store.
    device: JAX's name for the kind.
    seeds: how many.
    rates: how many will be tried.
  """
  own = [(_ALL[key], record['seconds'] / (
      _ALL[key].cost * len(record['seeds']) * len(record['rates'])))
         for key, record in records.items()
         if _finished(key, record) and record['device'] == device]
  for like in (
      lambda c: (c.model, c.partition) == (cell.model, cell.partition),
      lambda c: c.model == cell.model, lambda c: True):
    factors = [factor for known, factor in own if like(known)]
    if factors:
      break
  factor = statistics.median(factors) if factors else _SECONDS_PER_OPERATION
  return factor * cell.cost * seeds * rates / 60


def minutes_left(
    cell: Cell, records: Mapping[str, Record], device: str, seeds: int = 3,
    rates: int = RATES,
) -> float:
  """The same, less what was spent on a cell that was begun with these seeds."""
  whole = minutes(cell, records, device, seeds, rates)
  if not begun(cell, records):
    return whole
  # A begun cell has at least its fine rates before it.
  return max(whole - records[cell.key]['seconds'] / 60, whole / rates)


def begun(cell: Cell, records: Mapping[str, Record]) -> bool:
  """Whether there is something of a cell, but not all."""
  return records.get(cell.key, {}).get('state') == 'partial'


def order(
    cells: Sequence[Cell], records: Mapping[str, Record], device: str,
    seeds: int = 3, rates: int = RATES,
) -> list[Cell]:
  """Cheapest first; before them what was begun and is not long.

  Args:
    cells: to be ordered.
    records, device, seeds, rates: as for `minutes`.
  """
  def place(cell: Cell) -> tuple[bool, float]:
    left = minutes_left(cell, records, device, seeds, rates)
    first = begun(cell, records) and left <= BEGUN_FIRST_MINUTES
    return not first, left

  return sorted(cells, key=place)


def _finished(key: str, record: Record) -> bool:
  """Whether a record is a cell's, and its best rate is known."""
  return key in _ALL and record['state'] == 'done' and any(
      c is not None for c in record['crossings'][_target(record)])


def _runs(record: Record) -> int:
  """Seeds times rates, of the search and after it."""
  search = record.get('search', record)
  searched, seeds = len(search['seeds']), len(record['seeds'])
  return searched * len(search['rates']) + seeds - searched


def _best_rate(record: Record) -> str:
  return record['best_rate'][_target(record)]


def _target(record: Record) -> str:
  """The last one, which decides."""
  return target_name(record['targets'][-1])

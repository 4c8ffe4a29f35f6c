"""Computes cells: the learning-rate grid, all seeds and rates side by side.

The rates of a step of the grid and all seeds are the members of one sweep. A
rate is stopped once it has done as many rounds as the best rate's median
crossing takes, for it can't be better any more: a cell is a minimum. A seed is
stopped once it has crossed all targets. Where a rate's median has crossed, its
slower seeds go on, so that each seed of the best rate has its own figure.

After each dispatch the sweep is written to the cell's folder in runs/paper, and
a run goes on from there.

A search may use fewer seeds than a cell is to have, which halves its cost with
one of three. The rate that it finds is then run with the other seeds.
"""

import contextlib
import datetime
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import jax

import fedjax_sim
from benchmarks.paper import cells as cells_lib
from benchmarks.paper import grid, plan, race, results, searched, store
from benchmarks.paper.cells import Cell
from configs import default
from fedjax_sim.core import checks, compilation, products
from fedjax_sim.experiment import build_sweep, workdir
from fedjax_sim.simulation.sweep_runs import SweepRuns

# A cell that has not crossed is given up after this many times the paper's
# figure, and at least so many rounds.
_PATIENCE, _FEWEST = 2.0, 100
# Where the paper has no figure.
_WITHOUT_FIGURE = 3000


class Budget:
  """The time that is left."""

  def __init__(self, minutes: float | None):
    self._end = math.inf if minutes is None else (
        time.monotonic() + 60 * minutes)

  @property
  def over(self) -> bool:
    return time.monotonic() >= self._end


def run(
    cells: Sequence[Cell], *, seeds: int = 3,
    budget_minutes: float | None = None,
    rates: Sequence[float] | None = None, data_dir: str = '',
    search_seeds: int | None = None,
) -> bool:
  """Computes cells, one after the other; those that are done are left out.

  Args:
    cells: in the order in which to take them.
    seeds: how many, from 0.
    budget_minutes: when to stop; None computes all.
    rates: instead of the grid.
    data_dir: as in configs/default.py.
    search_seeds: how many of the seeds the best rate is searched with; the
      others are run at that rate only. None is all of them.

  Returns:
    Whether all cells could be computed, as far as the time allowed.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.positive_int('seeds', seeds)
  if budget_minutes is not None:
    checks.positive('budget_minutes', budget_minutes)
  for rate in rates or ():
    checks.positive('rates', rate)
  if search_seeds is None:
    search_seeds = seeds
  checks.positive_int('search_seeds', search_seeds)
  if search_seeds > seeds:
    raise ValueError(
        f'search_seeds must be at most seeds = {seeds}, got {search_seeds}.')
  if data_dir and not Path(data_dir).is_dir():
    raise ValueError(f'data_dir must be a folder, there is none at {data_dir}.')
  with contextlib.suppress(ValueError):  # JAX runs already.
    fedjax_sim.use_all_cores()
  compilation.keep_programs()
  budget, all_well = Budget(budget_minutes), True
  for cell in cells:
    if budget.over:
      break
    with store.claim(store.CLAIMS, cell.key) as held:
      known = store.read(store.STORE).get(cell.key)
      if not held:
        print(f'{cell.key}: another process is at it')
      elif known and _covers(known, seeds, rates):
        print(f'{cell.key}: done')
      else:
        try:
          _Search(cell, list(range(search_seeds)), data_dir).run(rates, budget)
          if search_seeds < seeds:
            _confirm(cell, search_seeds, seeds, data_dir, budget)
        except ValueError as error:
          all_well = False
          print(f'{cell.key}: {error}')
  return all_well


def _covers(record: store.Record, seeds: int, rates) -> bool:
  """Whether there is nothing to add to a record."""
  wanted = {f'{rate:.4g}' for rate in rates or ()}
  return (record['state'] == 'done' and len(record['seeds']) >= seeds
          and wanted <= record.get('search', record)['rates'].keys())


def _confirm(
    cell: Cell, search_seeds: int, seeds: int, data_dir: str, budget: Budget
) -> None:
  """Runs the seeds that a search did without, at the rate that it found."""
  found = store.latest(store.STORE, cell.key, list(range(search_seeds)))
  if found is None or found['state'] != 'done' or budget.over:
    return
  rate = found['best_rate'][results.target_name(cell.targets[-1])]
  others = list(range(search_seeds, seeds))
  _Search(cell, others, data_dir, found).run([float(rate)], budget)


class _Search:
  """The rates of one cell."""

  def __init__(
      self, cell: Cell, seeds: list[int], data_dir: str,
      found: store.Record | None = None,
  ):
    """Nothing runs yet.

    Args:
      cell: the cell.
      seeds: of all rates.
      data_dir: as in configs/default.py.
      found: what a search with other seeds has found, to be added to.
    """
    self._cell, self._seeds, self._found = cell, seeds, found
    self._config = default.get_config().unlock()
    self._config.update(cells_lib.config_overrides(cell))
    self._config.data_dir = data_dir
    self._centre = plan.centre(cell, store.read(store.STORE))
    known = store.latest(
        store.STORE, cell.key, (found['seeds'] if found else []) + seeds)
    self._rates, self._curve = {}, None  # The curve is the best rate's.
    self._seconds = known['seconds'] if known else 0.0
    if found and known:
      self._seconds -= found['seconds']  # The race's folder has the rest.
    elif known:
      self._rates, self._curve = dict(known['rates']), known['curve']
    self._sweep = None
    figures = [f for row in cell.published.values() for f in row if f]
    self._limit = max(_FEWEST, math.ceil(
        _PATIENCE * max(figures) / cell.unit)) if figures else _WITHOUT_FIGURE

  @property
  def _folder(self) -> Path:
    return store.WORK / self._cell.key.replace('/', '_')

  def run(self, rates: Sequence[float] | None, budget: Budget) -> None:
    """Rates until the best one is known, or time is up."""
    wanted = [f'{rate:.4g}' for rate in rates or ()] or self._next_rates()
    missing = self._unfinished()
    while True:
      missing = missing or [rate for rate in wanted if self._rates.get(
          rate, {}).get('stopped', 'running') == 'running']
      if missing and not self._race(missing, budget):
        return
      missing = []
      if any(self._rates.get(rate) is None for rate in wanted):
        continue
      wanted = [] if rates else self._next_rates()
      if not wanted:
        self._write('done')
        return

  def _next_rates(self) -> list[str]:
    """Of the grid; none when the best rate is known."""
    ended = {rate: rounds for rate, rounds in self._medians().items()
             if grid.index(rate) is not None
             and self._rates[rate]['stopped'] != 'running'}
    return grid.next_rates(ended) if ended else grid.first_rates(self._centre)

  def _unfinished(self) -> list[str]:
    """The rates of a race that a kill or the budget has cut short."""
    return race.unfinished(self._folder, self._seeds)

  def _medians(self) -> dict[str, float]:
    """Rate -> rounds to the last target, which decides."""
    name = results.target_name(self._cell.targets[-1])
    return {rate: results.median(outcome['crossings'][name])
            for rate, outcome in self._rates.items()}

  def _race(self, rates: list[str], budget: Budget) -> bool:
    """Runs rates side by side; False if time was up first."""
    settings = [{'seed': seed, 'client_lr': float(rate)}
                for rate in rates for seed in self._seeds]
    if self._sweep is None or self._sweep.size < len(settings):
      self._sweep = None  # Its memory first.
      # Later rates come one or two at a time, and use the same program.
      self._sweep, members = build_sweep.build_sweep(
          self._config, settings,
          num_members=max(len(settings), 3 * len(self._seeds)))
    else:
      members = build_sweep.sweep_members(self._config, settings)
    one = race.Race(
        SweepRuns(sweep=self._sweep, members=members), rates=rates,
        seeds=self._seeds, targets=self._cell.targets, folder=self._folder,
        limit=self._limit, best=self._best_beside(rates))
    print(f'{self._cell.key}: rates {", ".join(rates)}, seeds '
          f'{", ".join(map(str, self._seeds))}', flush=True)
    ended = one.run(lambda: budget.over)
    self._seconds += one.seconds
    curves = {}
    for i, rate in enumerate(rates):
      outcome, curve = one.outcome(i)
      # Begun again without its checkpoint, it may not be as far as it was.
      known = self._rates.get(rate, {'rounds': 0})
      if outcome['stopped'] != 'running' or (
          outcome['rounds'] >= known['rounds']):
        self._rates[rate], curves[rate] = outcome, curve
    # A rate that is the best and was not raced has been the best before.
    best = self._best_rate()
    self._curve = _thin(best, curves[best]) if best in curves else self._curve
    self._write('partial')
    if ended:
      one.forget()
    return ended

  def _best_rate(self) -> str:
    """For the last target, which decides."""
    chosen = results.best(self._rates, self._cell.targets)['best_rate']
    return chosen[results.target_name(self._cell.targets[-1])]

  def _best_beside(self, rates: list[str]) -> float:
    """The least median crossing so far of other rates."""
    return min((rounds for rate, rounds in self._medians().items()
                if rate not in rates), default=math.inf)

  def _write(self, state: str) -> None:
    """Adds the record to the store."""
    cell = self._cell
    record = {
        'key': cell.key, 'tables': sorted(cell.published), 'model': cell.model,
        'partition': cell.partition, 'algorithm': cell.algorithm, 'C': cell.C,
        'E': cell.E, 'B': cell.B, 'targets': list(cell.targets),
        'state': state, 'seeds': self._seeds, 'rates': self._rates,
        **results.best(self._rates, cell.targets), 'curve': self._curve,
        'config': cells_lib.config_overrides(cell),
        'seconds': round(self._seconds, 1),
        'device': jax.devices()[0].device_kind,
        'precision': products.resolved(
            self._config.precision, jax.default_backend()),
        'versions': workdir.environment()['versions'],
        'commit': workdir.environment()['git_commit'] or os.environ.get(
            'COMMIT', ''),
        'date': datetime.date.today().isoformat(), 'notes': ''}
    if self._found is not None and self._curve is not None:
      record |= searched.added(self._found, record)
    if self._curve is not None:
      store.append(store.STORE, record)
      print(f'{cell.key}: {state}, ' + results.text(results.of(
          cell, record, cell.targets[-1])), flush=True)


def _thin(rate: str, curves: list[dict]) -> dict | None:
  """The field `curve`, from those of a rate's seeds; None without a round."""
  length = max(len(c['test_accuracy']) for c in curves)
  filled = lambda name: [
      c[name] + [None] * (length - len(c[name])) for c in curves]
  return results.thin(rate, range(1, length + 1), filled('test_accuracy'),
                      filled('train_loss')) if length else None

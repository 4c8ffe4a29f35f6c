"""Computes cells: the learning-rate grid, all seeds and rates side by side.

The rates of a step of the grid and all seeds are the members of one sweep. A
rate is stopped once it has done as many rounds as the best rate's median
crossing takes, for it can't be better any more: a cell is a minimum. A seed is
stopped once it has crossed all targets. Where a rate's median has crossed, its
slower seeds go on, so that each seed of the best rate has its own figure.

After each dispatch the sweep is written to the cell's folder in runs/paper, and
a run goes on from there.
"""

import contextlib
import datetime
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

import fedjax_sim
from benchmarks.paper import cells as cells_lib
from benchmarks.paper import grid, results, store
from benchmarks.paper.cells import Cell
from configs import default
from fedjax_sim.core import checks, compilation, files
from fedjax_sim.experiment import build as build_lib
from fedjax_sim.experiment import metrics, workdir
from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.simulation import sweep as sweep_lib

# A cell that has not crossed is given up after this many times the paper's
# figure, and at least so many rounds.
_PATIENCE, _FEWEST = 2.0, 100
# Where the paper has no figure.
_WITHOUT_FIGURE = 3000
# Where the search of the best rate begins.
CENTRES = {'mnist_2nn': 0.1, 'mnist_cnn': 0.2154, 'shakespeare_lstm': 1.0,
           'cifar_cnn': 0.1, 'word_lstm': 10.0}


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
) -> bool:
  """Computes cells, one after the other; those that are done are left out.

  Args:
    cells: in the order in which to take them.
    seeds: how many, from 0.
    budget_minutes: when to stop; None computes all.
    rates: instead of the grid.
    data_dir: as in configs/default.py.

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
          _Search(cell, list(range(seeds)), data_dir).run(rates, budget)
        except ValueError as error:
          all_well = False
          print(f'{cell.key}: {error}')
  return all_well


def _covers(record: store.Record, seeds: int, rates) -> bool:
  """Whether there is nothing to add to a record."""
  wanted = {f'{rate:.4g}' for rate in rates or ()}
  return (record['state'] == 'done' and len(record['seeds']) >= seeds
          and wanted <= record['rates'].keys())


class _Search:
  """The rates of one cell."""

  def __init__(self, cell: Cell, seeds: list[int], data_dir: str):
    self._cell, self._seeds = cell, seeds
    self._config = default.get_config().unlock()
    self._config.update(cells_lib.config_overrides(cell))
    self._config.data_dir = data_dir
    known = store.latest(store.STORE, cell.key, seeds)
    self._rates = dict(known['rates']) if known else {}
    self._curve = known['curve'] if known else None  # Of the best rate.
    self._seconds = known['seconds'] if known else 0.0
    self._sweep = None
    figures = [f for row in cell.published.values() for f in row if f]
    self._limit = max(_FEWEST, math.ceil(
        _PATIENCE * max(figures) / cell.unit)) if figures else _WITHOUT_FIGURE

  @property
  def _folder(self) -> Path:
    return store.WORK / self._cell.key.replace('/', '_')

  def run(self, rates: Sequence[float] | None, budget: Budget) -> None:
    """Rates until the best one is known, or time is up."""
    wanted = [f'{rate:.4g}' for rate in rates or ()] or grid.first_rates(
        CENTRES[self._cell.model])
    missing = self._unfinished()
    while True:
      missing = missing or [rate for rate in wanted if self._rates.get(
          rate, {}).get('stopped', 'running') == 'running']
      if missing and not self._race(missing, budget):
        return
      missing = []
      if any(self._rates.get(rate) is None for rate in wanted):
        continue
      wanted = [] if rates else grid.next_rates(self._medians())
      if not wanted:
        self._write('done')
        return

  def _unfinished(self) -> list[str]:
    """The rates of a race that a kill or the budget has cut short."""
    about = _read_json(self._folder / 'race.json').get('name', {})
    return about['rates'] if about.get('seeds') == self._seeds else []

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
      self._sweep, members = build_lib.build_sweep(
          self._config, settings,
          num_members=max(len(settings), 3 * len(self._seeds)))
    else:
      members = build_lib.sweep_members(self._config, settings)
    race = _Race(self._cell, self._sweep, members, rates, self._seeds,
                 self._folder, self._limit, self._best_beside(rates))
    print(f'{self._cell.key}: rates {", ".join(rates)}, seeds '
          f'{", ".join(map(str, self._seeds))}', flush=True)
    ended = race.run(budget)
    self._seconds += race.seconds
    curves = {}
    for i, rate in enumerate(rates):
      outcome, curve = race.outcome(i)
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
      race.forget()
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
        'versions': workdir.environment()['versions'],
        'commit': workdir.environment()['git_commit'] or os.environ.get(
            'COMMIT', ''),
        'date': datetime.date.today().isoformat(), 'notes': ''}
    if self._curve is not None:
      store.append(store.STORE, record)
      print(f'{cell.key}: {state}, ' + results.text(results.of(
          cell, record, cell.targets[-1])), flush=True)


class _Race:
  """Rates and seeds as the members of a sweep, resumable."""

  def __init__(self, cell, sweep, members, rates, seeds, folder, limit, best):
    self._targets, self._sweep, self._members = cell.targets, sweep, members
    self._rates, self._seeds, self._folder = rates, len(seeds), folder
    self._limit, self._best, self.seconds = limit, best, 0.0
    self._curves = [{'test_accuracy': [], 'train_loss': []} for _ in members]
    self._stopped: list[str | None] = [None] * len(members)
    self._name = {'rates': rates, 'seeds': seeds}

  def run(self, budget: Budget) -> bool:
    """To the end, or until time is up; False then."""
    with Checkpoints(self._folder / 'checkpoints', keep=2) as saved:
      state = self._restore(saved)
      active = {i for i, why in enumerate(self._stopped) if why is None}
      begun = time.monotonic()
      for progress in self._sweep.dispatches(
          self._members, state, self._limit, active):
        state = progress.state
        self._record(progress)
        self._judge(active)
        self._save(saved, state, begun)
        begun = time.monotonic()
        if budget.over and active:
          return False
      self.seconds += time.monotonic() - begun
    for i, why in enumerate(self._stopped):
      self._stopped[i] = why or 'limit'
    return True

  def _record(self, progress: sweep_lib.Progress) -> None:
    for i, rows in progress.rows.items():
      for name in ('test_accuracy', 'train_loss'):
        self._curves[i][name] += [
            round(row[name.replace('_', '/')], 6) for row in rows]
    for i in progress.diverged:
      self._stopped[i] = 'diverged'

  def _judge(self, active: set[int]) -> None:
    """Takes out who has crossed, and who can't be the best any more."""
    for i in sorted(active):
      if None not in self._crossings(i).values():
        self._stopped[i] = 'reached'
    medians = [results.median([self._last(i) for i in self._group(rate)])
               for rate in range(len(self._rates))]
    best = min([self._best, *medians])
    for rate, own in enumerate(medians):
      for i in self._group(rate):
        if (self._stopped[i] is None and own > best
            and len(self._curves[i]['test_accuracy']) >= best):
          self._stopped[i] = 'beaten'
    active.difference_update(
        i for i, why in enumerate(self._stopped) if why)

  def _group(self, rate: int) -> range:
    """The members of a rate."""
    return range(rate * self._seeds, (rate + 1) * self._seeds)

  def _crossings(self, i: int) -> dict[str, float | None]:
    accuracy = self._curves[i]['test_accuracy']
    rounds = np.arange(1, len(accuracy) + 1)
    return {results.target_name(target): metrics.rounds_to_target(
        rounds, np.array(accuracy), target) if len(accuracy) else None
        for target in self._targets}

  def _last(self, i: int) -> float | None:
    """The crossing of the last target."""
    return self._crossings(i)[results.target_name(self._targets[-1])]

  def outcome(self, rate: int) -> tuple[dict, list[dict]]:
    """A rate's entry in the record, and its curves."""
    own = list(self._group(rate))
    why = {self._stopped[i] or 'running' for i in own}
    order = ('running', 'limit', 'beaten', 'reached', 'diverged')
    crossings = [self._crossings(i) for i in own]
    outcome = {
        'rounds': max(len(self._curves[i]['test_accuracy']) for i in own),
        'crossings': {name: [_rounded(c[name]) for c in crossings]
                      for name in crossings[0]},
        'stopped': next(name for name in order if name in why),
        'best_accuracy': [max(self._curves[i]['test_accuracy'], default=None)
                          for i in own]}
    return outcome, [self._curves[i] for i in own]

  def _restore(self, saved: Checkpoints) -> sweep_lib.SweepState:
    initial = self._sweep.init(self._members)
    about, latest = _read_json(self._folder / 'race.json'), saved.latest()
    if latest is None or about.get('name') != self._name:
      return initial
    kept = about['saved'].get(str(latest))
    if kept is None or len(kept['members']) != len(initial.members):
      return initial  # It was saved with another number of devices.
    for name in ('curves', 'stopped'):
      setattr(self, f'_{name}', kept[name])
    print(f'  goes on after {max(kept["done"])} rounds', flush=True)
    return sweep_lib.SweepState(
        saved.restore(latest, initial.states),
        np.array(kept['members'], np.int32), np.array(kept['done'], np.int32))

  def _save(self, saved: Checkpoints, state, begun: float) -> None:
    """First what belongs to the checkpoint, then the checkpoint."""
    self.seconds += time.monotonic() - begun
    file, latest = self._folder / 'race.json', saved.latest()
    about = _read_json(file)
    earlier = about.get('saved', {}) if about.get('name') == self._name else {}
    number = (latest or 0) + 1
    earlier = {k: v for k, v in earlier.items() if k == str(latest)}
    earlier[str(number)] = {
        'curves': self._curves, 'stopped': self._stopped,
        'members': state.members.tolist(), 'done': state.done.tolist()}
    _write_json(file, {'name': self._name, 'saved': earlier})
    saved.save(number, state.states)

  def forget(self) -> None:
    """Once all that counts is in the store."""
    (self._folder / 'race.json').unlink(missing_ok=True)


def _thin(rate: str, curves: list[dict]) -> dict | None:
  """The field `curve`, from those of a rate's seeds; None without a round."""
  length = max(len(c['test_accuracy']) for c in curves)
  filled = lambda name: [
      c[name] + [None] * (length - len(c[name])) for c in curves]
  return results.thin(rate, range(1, length + 1), filled('test_accuracy'),
                      filled('train_loss')) if length else None


def _rounded(value: float | None) -> float | None:
  return None if value is None else round(float(value), 2)


def _write_json(path: Path, value) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as file:
    file.write(json.dumps(value).encode())


def _read_json(file: Path) -> dict:
  return json.loads(file.read_text()) if file.exists() else {}

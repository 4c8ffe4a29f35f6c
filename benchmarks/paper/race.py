"""A race of learning rates: a sweep of rates and seeds that can be resumed.

`experiment.loop` runs it. After each dispatch the seeds that have crossed all
targets and the rates that can't be the best any more are taken out. That
follows from the curves, so the folder holds no more than a sweep's: metrics of
each member, checkpoints, and whose they are.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.paper import results
from fedjax_sim.experiment import loop, metrics, workdir
from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.simulation.drive import Progress
from fedjax_sim.simulation.records import Record
from fedjax_sim.simulation.sweep_runs import SweepRuns

_ABOUT = 'race.json'
# A rate whose seeds ended differently is told by the first of these.
_ENDS = ('running', 'limit', 'beaten', 'reached', 'diverged')


def unfinished(folder: Path, seeds: Sequence[int]) -> list[str]:
  """The rates of a race that a kill or the budget has cut short."""
  about = workdir.read_json(folder / _ABOUT) or {}
  return about['rates'] if about.get('seeds') == list(seeds) else []


class Race:
  """Rates and seeds as the members of a sweep.

  Attributes:
    seconds: that it has run.
  """

  def __init__(
      self, runs: SweepRuns, *, rates: Sequence[str], seeds: Sequence[int],
      targets: Sequence[float], folder: Path, limit: int, best: float):
    """Nothing runs yet.

    Args:
      runs: the members, all seeds of the first rate, then of the next.
      rates: learning rates.
      seeds: the seeds.
      targets: test accuracies; the last one decides.
      folder: for this race alone.
      limit: the most rounds.
      best: the least median crossing of rates that are not raced here.
    """
    self._runs, self._rates, self._seeds = runs, rates, len(seeds)
    self._targets, self._folder = targets, folder
    self._limit, self._best, self.seconds = limit, best, 0.0
    self._files = {
        i: folder / f'{rates[i // len(seeds)]}_{seeds[i % len(seeds)]}.jsonl'
        for i in range(len(runs.members))}
    self._curves = [
        {'test_accuracy': [], 'train_loss': []} for _ in runs.members]
    self._stopped: list[str | None] = [None] * len(runs.members)
    self._about = {'rates': list(rates), 'seeds': list(seeds),
                   'places': runs.sweep.size}

  def run(self, stop: Callable[[], bool]) -> bool:
    """To the end, or until told to stop; False then."""
    begun = time.monotonic()
    if workdir.read_json(self._folder / _ABOUT) != self._about:
      shutil.rmtree(self._folder, ignore_errors=True)  # Of another race.
      self._folder.mkdir(parents=True)
      workdir.write_json(self._folder / _ABOUT, self._about)
    active = set(range(len(self._curves)))
    with Checkpoints(self._folder / 'checkpoints', keep=2) as checkpoints:
      state = loop.restore(
          self._runs, self._runs.sweep.init(self._runs.members), checkpoints,
          self._files)
      self._read(
          self._runs.done(state),
          loop.diverged(self._runs, state, checkpoints))
      self._judge(active)

      def look(progress: Progress) -> None:
        for i, records in progress.records.items():
          self._extend(i, records)
        for i in progress.diverged:
          self._stopped[i] = 'diverged'
        self._judge(active)

      outcome = loop.train(
          self._runs, state, loop.Cadence(self._limit, lambda r: True),
          files=self._files, checkpoints=checkpoints, active=active,
          traffic=self._runs.bytes_per_client(), stop=stop, on_progress=look)
    self.seconds += time.monotonic() - begun
    if not outcome.interrupted:
      self._stopped = [why or 'limit' for why in self._stopped]
    return not outcome.interrupted

  def _read(self, done: dict[int, int], diverged: dict[int, int]) -> None:
    """Goes on from the metrics of an earlier part.

    Raises:
      ValueError: some are missing, so that no crossing is known.
    """
    for i, file in self._files.items():
      records = metrics.read(file) if file.exists() else []
      if metrics.missing_rounds(records, diverged.get(i, done[i])):
        raise ValueError(f'{file} lacks records. Remove {self._folder} to '
                         'compute the cell again.')
      self._extend(i, records)
    self._stopped = ['diverged' if i in diverged else why
                     for i, why in enumerate(self._stopped)]
    if any(done.values()):
      print(f'  goes on after {max(done.values())} rounds', flush=True)

  def _extend(self, i: int, records: Sequence[Record]) -> None:
    for name, curve in self._curves[i].items():
      curve += [round(r[name.replace('_', '/')], 6) for r in records]

  def _judge(self, active: set[int]) -> None:
    """Takes out who has crossed, and who can't be the best any more."""
    for i in sorted(active):
      if self._stopped[i] is None and None not in self._crossings(i).values():
        self._stopped[i] = 'reached'
    medians = [results.median([self._last(i) for i in self._group(rate)])
               for rate in range(len(self._rates))]
    best = min([self._best, *medians])
    for rate, median in enumerate(medians):
      for i in self._group(rate):
        if (self._stopped[i] is None and median > best
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
    members = list(self._group(rate))
    why = {self._stopped[i] or 'running' for i in members}
    crossings = [self._crossings(i) for i in members]
    outcome = {
        'rounds': max(len(self._curves[i]['test_accuracy']) for i in members),
        'crossings': {name: [_rounded(c[name]) for c in crossings]
                      for name in crossings[0]},
        'stopped': next(name for name in _ENDS if name in why),
        'best_accuracy': [max(self._curves[i]['test_accuracy'], default=None)
                          for i in members]}
    return outcome, [self._curves[i] for i in members]

  def forget(self) -> None:
    """Once all that counts is in the store."""
    (self._folder / _ABOUT).unlink(missing_ok=True)


def _rounded(value: float | None) -> float | None:
  return None if value is None else round(float(value), 2)

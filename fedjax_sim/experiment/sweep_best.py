"""The best model of each run of a sweep whose runs share a program."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from fedjax_sim.core.types import PyTree
from fedjax_sim.experiment import best as best_lib
from fedjax_sim.experiment import loop, metrics
from fedjax_sim.experiment.best import Best
from fedjax_sim.simulation.records import Record
from fedjax_sim.simulation.sweep import SweepState
from fedjax_sim.simulation.sweep_runs import SweepRuns


@dataclasses.dataclass(frozen=True, kw_only=True)
class BestOfEach:
  """What a run of its own keeps in its folder, for each member.

  Attributes:
    runs: the members.
    kept: member -> its best model so far; {} if nobody asks for it.
    evaluate: round (from 0) -> whether it is evaluated.
  """

  runs: SweepRuns
  kept: Mapping[int, Best]
  evaluate: Callable[[int], bool]

  def pause(self, r: int) -> bool:
    """Whether the state is needed after round r (from 0)."""
    return bool(self.kept) and self.evaluate(r)

  def restore(self, state: SweepState) -> None:
    """Goes on from what the folders hold; says what of it is lost."""
    for i, best in self.kept.items():
      best.load(self._evaluated(state, i))
      lost = best.recall(
          metrics.read(best.path.parent / loop.METRICS_FILE), self.evaluate)
      if lost is not None:
        print(f'warning: {lost}', flush=True)

  def see(self, state: SweepState, last: Mapping[int, Record]) -> None:
    """After a dispatch, with the last record of each member in it."""
    for i in self.kept.keys() & last.keys():
      best, record = self.kept[i], last[i]
      tested = record['round'] == 0 or self.evaluate(record['round'] - 1)
      if tested and best.is_better(record):
        best.keep(record, self._evaluated(state, i), write=True)

  def _evaluated(self, state: SweepState, member: int) -> PyTree:
    """The `Variables` that a member is evaluated with."""
    make = self.runs.sweep.make_algorithm
    return make(**self.runs.members[member].hyperparameters).evaluated(
        self.runs.state_of(state, member).server)


def of(
    config: ConfigDict, runs: SweepRuns, folders: Sequence[Path],
    evaluate: Callable[[int], bool],
) -> BestOfEach:
  """For runs of a config, with the folder of each.

  Raises:
    ValueError: the direction of the metric is unknown.
  """
  kept = {}
  if config.best_metric:
    mode = best_lib.mode_of(
        runs.sweep.model, config.best_metric, config.best_mode,
        prefix='config.best_')
    kept = {i: Best(metric=config.best_metric, mode=mode,
                    path=path / best_lib.FILE, field='config.best_metric')
            for i, path in enumerate(folders)}
  return BestOfEach(runs=runs, kept=kept, evaluate=evaluate)

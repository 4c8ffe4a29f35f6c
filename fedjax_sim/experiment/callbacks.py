"""Callbacks: what follows a run, and may stop it.

A callback is a function `(state, record)`, called after each round that is
evaluated (`eval_every`; round 0 is the model before training), with the
`SimulationState` after that round and its record. The state is the callback's
to keep. If it returns True the run ends there, as if that had been its last
round. So every round that is evaluated ends a call of the devices.

A callback that needs no state is an object with `log` instead: it costs a run
nothing. An object may have any of these methods:

  begin(model, algorithm): before the first round.
  resume(records): those of an earlier part of the run, where it goes on; True
    says that the run had been stopped there.
  log(records): all new records, some rounds at a time, in order.
  __call__(state, record): see above.
  close(): the run has ended, in whatever way.
"""

import dataclasses
from collections.abc import Sequence

from fedjax_sim.core import checks
from fedjax_sim.core.types import FederatedAlgorithm, Model
from fedjax_sim.experiment import best as best_lib
from fedjax_sim.experiment.best import Best
from fedjax_sim.experiment.loggers import mlflow, printing, tensorboard, wandb
from fedjax_sim.simulation.records import Record
from fedjax_sim.simulation.rounds import SimulationState

__all__ = ['EarlyStopping', 'KeepBest', 'early_stopping', 'keep_best', 'mlflow',
           'printing', 'tensorboard', 'wandb']


def early_stopping(
    metric: str, *, patience: int, mode: str | None = None,
    min_change: float = 0.0,
) -> 'EarlyStopping':
  """Stops a run whose metric has not improved for some evaluations.

  A run that goes on from a folder counts the evaluations there too.

  Args:
    metric: such as 'test/loss'.
    patience: evaluations without a new best value before the run ends.
    mode: 'max' or 'min'; None asks the model, which knows it of its own
      metrics.
    min_change: how much better than the best value so far is new.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.positive_int('patience', patience)
  checks.non_negative('min_change', min_change)
  if mode is not None:
    checks.one_of('mode', mode, best_lib.MODES)
  return EarlyStopping(metric, patience, mode, min_change)


def keep_best(metric: str, *, mode: str | None = None) -> 'KeepBest':
  """Keeps the best model so far in memory: `variables`, `round`, `value`.

  For a run with a folder `simulate(best_metric=)` does it on disk, and goes on
  after a kill.

  Args:
    metric: such as 'test/accuracy'.
    mode: as in `early_stopping`.
  """
  if mode is not None:
    checks.one_of('mode', mode, best_lib.MODES)
  return KeepBest(metric, mode)


@dataclasses.dataclass
class EarlyStopping:
  """See `early_stopping`.

  Attributes:
    metric: what it follows.
    patience: evaluations.
    mode: 'max' or 'min', None until a run has begun.
    min_change: in the metric's unit.
    waited: evaluations since the best one.
    best: the best value so far, where higher is better.
  """

  metric: str
  patience: int
  mode: str | None
  min_change: float
  waited: int = 0
  best: float | None = None

  def begin(self, model: Model, algorithm: FederatedAlgorithm) -> None:
    del algorithm
    self.mode = best_lib.mode_of(model, self.metric, self.mode)
    self.waited, self.best = 0, None

  def resume(self, records: Sequence[Record]) -> bool:
    # Those that were evaluated; of others there is nothing to see.
    seen = [self._see(record) for record in records if self.metric in record]
    return any(seen)

  def __call__(self, state: SimulationState, record: Record) -> bool:
    del state
    return self._see(record)

  def _see(self, record: Record) -> bool:
    value = best_lib.value_of(record, self.metric, self.mode)
    if self.best is None or value > self.best + self.min_change:
      self.waited, self.best = 0, value
    else:
      self.waited += 1
    return self.waited >= self.patience


@dataclasses.dataclass
class KeepBest:
  """See `keep_best`.

  Attributes:
    metric: what it follows.
    mode: 'max' or 'min', None until a run has begun.
    kept: the best so far, None until a run has begun.
  """

  metric: str
  mode: str | None
  kept: Best | None = None

  def begin(self, model: Model, algorithm: FederatedAlgorithm) -> None:
    self.mode = best_lib.mode_of(model, self.metric, self.mode)
    self.kept = Best(metric=self.metric, mode=self.mode)
    self._evaluated = algorithm.evaluated

  def __call__(self, state: SimulationState, record: Record) -> None:
    if self.kept.is_better(record):
      self.kept.keep(record, self._evaluated(state.server), write=False)

  @property
  def variables(self):
    """Of the best round, on the host."""
    return self.kept and self.kept.variables

  @property
  def round(self) -> int | None:
    """The best one."""
    return self.kept and self.kept.round

  @property
  def value(self) -> float | None:
    """The metric there."""
    return self.kept and self.kept.value

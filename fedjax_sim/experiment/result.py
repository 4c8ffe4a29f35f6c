"""What `simulate` returns, and what `load` reads from a folder."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedjax_sim.core import short
from fedjax_sim.core.types import FederatedAlgorithm, Model, PyTree, Variables
from fedjax_sim.experiment.best import Best
from fedjax_sim.experiment.client_history import ClientHistory
from fedjax_sim.experiment.readings import (
    curve,
    data_frame,
    predict,
    rounds_to,
)
from fedjax_sim.simulation.records import DivergenceError, Record
from fedjax_sim.simulation.rounds import SimulationState


class Result(NamedTuple):
  """What `simulate` returns.

  Attributes:
    state: the `SimulationState` after the last round. Its `clients` are a
      `StoredStates` where they were stored on disk, in a file that is gone
      with it.
    records: a dict for each round: `round`, `train/loss`, `test/loss`,
      `test/accuracy` (where evaluated), `clients`, `bytes_up`, `seconds`, ….
      With an evaluation set the first is of round 0, the model before
      training. A run that went on has those of its earlier part too.
    model: the model.
    algorithm: the algorithm.
    best: the best model, with its `round` and `value`, where it was asked for.
    clients: metrics of each client over time, where they were asked for.
    diverged: the first NaN or infinity, of a run told to go on after it.
    interrupted: Ctrl-C ended the run before its last round.
    stopped: a callback did.
  """

  state: SimulationState
  records: list[Record]
  model: Model | None = None
  algorithm: FederatedAlgorithm | None = None
  best: Best | None = None
  clients: ClientHistory | None = None
  diverged: DivergenceError | None = None
  interrupted: bool = False
  stopped: bool = False

  def __repr__(self) -> str:
    last = self.records[-1] if self.records else {'round': 0}
    told = [f'{last["round"]} rounds', short.metrics(last)] + [
        name for name in ('diverged', 'interrupted', 'stopped')
        if getattr(self, name)]
    return f'Result({", ".join(filter(None, told))})'

  @property
  def variables(self) -> Variables:
    """The global model; of an algorithm with several, all of them."""
    return self.state.server.variables

  def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rounds and values of a metric where it was measured."""
    return curve(self.records, name)

  def rounds_to(
      self, target: float, metric: str = 'test/accuracy',
      mode: str | None = None,
  ) -> float | None:
    """Rounds until a metric first reaches a target; see `readings.rounds_to`.

    None if it does not. `mode` is 'max' or 'min', or what the model states.
    """
    return rounds_to(self.records, self.model, target, metric, mode)

  def predict(self, inputs: PyTree, batch_size: int = 1000) -> np.ndarray:
    """The global model's outputs on inputs [E, ...]; see `predict`."""
    return predict(self.model, self.algorithm.evaluated(self.state.server),
                   inputs, batch_size)

  def to_pandas(self) -> Any:
    """The records as a `pandas.DataFrame`, a line for each round.

    Raises:
      ValueError: pandas is not installed.
    """
    return data_frame(self.records)

  def save(self, folder: str | Path) -> None:
    """Writes what `load` and `simulate(resume_from=)` read.

    Args:
      folder: made if it isn't there; holds no run yet.

    Raises:
      ValueError: it can't be written, or holds a run; or clients' states lie
        on disk, which a run with `workdir=` keeps.
    """
    from fedjax_sim.experiment import saving
    saving.save(self, Path(folder))


class Loaded(NamedTuple):
  """What `load` finds in a run's folder.

  Attributes:
    model: the model.
    variables: the global model, after the last round or the best one.
    records: of metrics.jsonl.
    round: which round the variables are of.
    clients: metrics of each client over time, None if there are none.
  """

  model: Model
  variables: Variables
  records: list[Record]
  round: int
  clients: ClientHistory | None = None

  def __repr__(self) -> str:
    at = [one for one in self.records if one['round'] == self.round]
    told = [f'round {self.round}', *map(short.metrics, at[-1:])]
    return f'Loaded({", ".join(filter(None, told))})'

  def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rounds and values of a metric where it was measured."""
    return curve(self.records, name)

  def rounds_to(
      self, target: float, metric: str = 'test/accuracy',
      mode: str | None = None,
  ) -> float | None:
    """Rounds until a metric first reaches a target; see `readings.rounds_to`.

    None if it does not. `mode` is 'max' or 'min', or what the model states.
    """
    return rounds_to(self.records, self.model, target, metric, mode)

  def predict(self, inputs: PyTree, batch_size: int = 1000) -> np.ndarray:
    """The model's outputs on inputs [E, ...]; see `predict`."""
    return predict(self.model, self.variables, inputs, batch_size)

  def to_pandas(self) -> Any:
    """The records as a `pandas.DataFrame`, a line for each round.

    Raises:
      ValueError: pandas is not installed.
    """
    return data_frame(self.records)


def load(
    folder: str | Path, *, model: Model | None = None, which: str = 'last'
) -> Loaded:
  """Model, variables and records of a run's folder.

  Args:
    folder: of `run.py`, `simulate(workdir=)` or `Result.save`.
    model: that of a run from Python; of one of `run.py` the config makes it.
    which: 'last' checkpoint, or 'best' of a run with `best_metric`.

  Raises:
    ValueError: there is no such thing, it is damaged, or of another model.
  """
  from fedjax_sim.experiment import saving  # It imports orbax.
  return saving.load(Path(folder), model, which)

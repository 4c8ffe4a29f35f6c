"""A run from its first round, or the last one kept, to its end.

`run.py` and `fedjax_sim.simulate` both go through `steps`. It follows the loop
and does what belongs to each round besides training: callbacks, the best model,
metrics of clients. What a round leaves on disk is there before the checkpoint
that covers the round.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sim.core import random
from fedjax_sim.core.types import PyTree
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.data.partition import Partition
from fedjax_sim.experiment import best as best_lib
from fedjax_sim.experiment import (
    client_history,
    loop,
    metrics,
    plots,
    privacy_told,
    processes,
    results,
)
from fedjax_sim.experiment.best import Best
from fedjax_sim.simulation import client_evaluation
from fedjax_sim.simulation.client_evaluation import ClientMetrics
from fedjax_sim.simulation.records import DivergenceError, Record
from fedjax_sim.simulation.rounds import SimulationState
from fedjax_sim.simulation.simulation import Simulation

# A callback: see `fedjax_sim.experiment.callbacks`.
Callback = Callable[[SimulationState, Record], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
  """What is to be done, and what is to be left.

  Attributes:
    simulation: ready to run.
    cadence: how to proceed; its `pause` comes on top of what is needed here.
    folder: the run's, None to leave nothing on disk.
    targets: test accuracies that the plot marks.
    callbacks: see `callbacks`.
    best: keeps the best model, None if nobody asks for it.
    client_test: test examples of each client, None if there are none.
    client_eval_every: rounds between two evaluations of the clients; 0 is
      after the last round only.
    record_cohort: whether records name the round's clients.
    partition: indices of each client's examples, None if they are unknown.
    labels: int [E] of the examples, None where there are none to draw.
  """

  simulation: Simulation
  cadence: loop.Cadence
  folder: Path | None = None
  targets: Sequence[float] = ()
  callbacks: Sequence[Callback] = ()
  best: Best | None = None
  client_test: FederatedData | None = None
  client_eval_every: int = 0
  record_cohort: bool = False
  partition: Partition | None = None
  labels: np.ndarray | None = None

  @property
  def files(self) -> dict[int, Path]:
    """Member -> its metrics file; {} without a folder."""
    return {} if self.folder is None else {0: self.folder / loop.METRICS_FILE}

  @property
  def seeing(self) -> list[Callback]:
    """The callbacks that are called with the state."""
    return [one for one in self.callbacks if callable(one)]

  def of_clients(self, round_number: int) -> bool:
    """Whether clients are evaluated after this round (from 1) for a table."""
    return self.client_test is not None and client_history.is_due(
        round_number, self.client_eval_every, self.cadence.rounds)

  def pause(self, r: int) -> bool:
    """Whether the state is needed after round r (from 0)."""
    watched = bool(self.seeing) or self.best is not None
    return (self.cadence.pause(r) or self.of_clients(r + 1)
            or watched and self.cadence.evaluate(r))


class Step(NamedTuple):
  """What a dispatch has done, or the evaluation before the first round.

  Attributes:
    state: as the loop has it; the next step donates it.
    records: new ones.
    diverged: the first bad round, if there was one.
  """

  state: SimulationState
  records: list[Record]
  diverged: DivergenceError | None = None


class Ended(NamedTuple):
  """How a run ended.

  Attributes:
    state: after the last dispatch, as the loop has it.
    diverged: the first NaN or infinity that was seen now.
    interrupted: somebody asked to stop before the last round.
    stopped: a callback was the one who asked.
    clients: metrics of clients by round; those found now.
  """

  state: SimulationState
  diverged: DivergenceError | None
  interrupted: bool
  stopped: bool
  clients: list[tuple[int, ClientMetrics]]


def restore(
    session: Session, initial: SimulationState, saved: loop.Keeper
) -> tuple[SimulationState, list[Record]]:
  """Where to go on, and the records up to there.

  Raises:
    ValueError: the checkpoint can't be read; nothing is dropped then.
  """
  simulation = session.simulation
  state = loop.restore(simulation, initial, saved, session.files)
  if session.folder is None:
    return state, []
  if processes.is_first():
    begin_again(session.folder)
    client_history.truncate_after(
        session.folder / client_history.FILE,
        simulation.done(state)[0] or -1)  # Round 0 is evaluated again.
  records = metrics.read(session.folder / loop.METRICS_FILE)
  if session.best is not None:
    _restore_best(session, state, records)
  return state, records


def begin_again(folder: Path) -> None:
  """Says what of a run's earlier results is lost; they hold no longer."""
  for lost in results.set_aside(
      folder, (client_history.FILE, best_lib.FILE)):
    print(f"warning: {lost} It can't be obtained without a new run.",
          flush=True)
  results.begin(folder)


def _restore_best(
    session: Session, state: SimulationState, records: Sequence[Record]
) -> None:
  """The best model so far; of one that is lost, its round and value."""
  session.best.load(evaluated(session, state))
  lost = session.best.recall(records, session.cadence.evaluate)
  if lost is not None and processes.is_first():
    print(f'warning: {lost}', flush=True)


def steps(
    session: Session, state: SimulationState, earlier: Sequence[Record],
    saved: loop.Keeper, stop: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Ended]:
  """Runs to the last round, or until asked to stop; in all processes.

  Args:
    session: what is to be done.
    state: where to start.
    earlier: records of the rounds before that.
    saved: gets checkpoints.
    stop: whether to stop, asked after each dispatch.

  Yields:
    A step for each dispatch, once its callbacks were called.
  """
  simulation, watch = session.simulation, _Watch(session)
  with contextlib.closing(watch):
    watch.begin(earlier)
    start = loop.evaluate_initial(simulation, state, session.files)
    if start:
      watch.log([start[0]])
      watch.see(state, start[0])
      yield Step(state, [start[0]])
    if watch.stopped:
      return Ended(state, None, True, True, [])
    dispatches = loop.proceed(
        simulation, state,
        session.cadence._replace(pause=session.pause), files=session.files,
        checkpoints=saved, traffic=simulation.bytes_per_client(),
        stop=lambda: stop() or watch.stopped, notes=watch.notes)
    with contextlib.closing(dispatches):
      while True:
        try:
          progress = next(dispatches)
        except StopIteration as ended:
          outcome: loop.Outcome = ended.value
          break
        bad = progress.diverged.get(0)
        watch.log(progress.records[0])
        if bad is None or not session.cadence.stop_on_divergence:
          watch.see(progress.state, progress.records[0][-1])
        yield Step(progress.state, progress.records[0], bad)
  return Ended(outcome.state, outcome.diverged.get(0), outcome.interrupted,
               watch.stopped and outcome.interrupted, watch.clients)


class _Watch:
  """Sees to callbacks, the best model and the table of clients."""

  def __init__(self, session: Session):
    self._session = session
    self._evaluate_clients = None
    self.stopped = False
    self.clients: list[tuple[int, ClientMetrics]] = []

  def begin(self, records: Sequence[Record]) -> None:
    """Tells callbacks what was before; one may have stopped the run then."""
    simulation = self._session.simulation
    for one in self._session.callbacks:
      if hasattr(one, 'begin'):
        one.begin(simulation.model, simulation.algorithm)
      if records and hasattr(one, 'resume'):
        self.stopped |= bool(one.resume(records))

  def notes(self, member: int, record: Record) -> dict[str, Any]:
    """What a record says besides, before it is written."""
    del member
    if not self._session.record_cohort or 'cohort' in record:
      return {}
    simulation = self._session.simulation
    clients = simulation.sampler.sample(record['round'] - 1)
    return {'cohort': [simulation.train.client_ids[k] for k in clients]}

  def log(self, records: Sequence[Record]) -> None:
    """Hands new records to the callbacks that log them."""
    for one in self._session.callbacks:
      if processes.is_first() and records and hasattr(one, 'log'):
        one.log(records)

  def see(self, state: SimulationState, last: Record) -> None:
    """After a dispatch, with its last record."""
    session = self._session
    if session.of_clients(last['round']):
      self._see_clients(state, last['round'])
    tested = last['round'] == 0 or session.cadence.evaluate(last['round'] - 1)
    if not tested:
      return
    if session.best is not None and session.best.is_better(last):
      session.best.keep(
          last, evaluated(session, state), processes.is_first())
    if session.seeing:
      seen = copied(session.simulation, state)
      for one in session.seeing:
        self.stopped |= one(seen, last) is True

  def _see_clients(self, state: SimulationState, round_number: int) -> None:
    session = self._session
    state = session.simulation.state_of(state, 0)
    if not processes.is_first():
      return
    if self._evaluate_clients is None:
      self._evaluate_clients = client_evaluator(session)
    found = self._evaluate_clients(state)
    self.clients.append((round_number, found))
    if session.folder is not None:
      client_history.append(
          session.folder / client_history.FILE, round_number,
          session.simulation.train.client_ids, found)

  def close(self) -> None:
    for one in self._session.callbacks:
      if hasattr(one, 'close'):
        one.close()


def write_results(session: Session, ended: Ended) -> None:
  """What the folder holds once the run has ended; in the first process."""
  simulation, folder = session.simulation, session.folder
  state = simulation.state_of(ended.state, 0)
  if folder is None or not processes.is_first():
    return
  stated = simulation.model.higher_is_better
  results.write(folder, state, session.targets, stated)
  draw_partition(session)
  done = simulation.done(ended.state)[0]
  privacy_told.write(folder, privacy_told.of(simulation, done))
  if session.client_test is not None:
    found = dict(ended.clients).get(done)
    if found is None:
      found = client_evaluator(session)(state)
    results.write_clients(folder, found)
  results.complete(folder, done, session.targets, stated)


def draw_partition(session: Session) -> None:
  """Draws who holds what, where that is known and not drawn yet."""
  path = session.folder / results.PARTITION_FILE
  if session.partition is not None and not path.exists():
    plots.partition_figure(session.partition, session.labels, path)


def client_evaluator(session: Session) -> Callable[..., ClientMetrics]:
  """Evaluates the clients on their own test examples, with any state."""
  simulation = session.simulation
  evaluate = client_evaluation.client_evaluator(
      simulation.model, simulation.algorithm, simulation.train,
      session.client_test, key=random.root_key(simulation.seed),
      lanes=simulation.lanes)

  def evaluate_there(state: SimulationState) -> ClientMetrics:
    with simulation.placement.tracing():
      return evaluate(state)

  return evaluate_there


def evaluated(session: Session, state: SimulationState) -> PyTree:
  """The `Variables` that are evaluated on the test set, on one device."""
  simulation = session.simulation
  return simulation.algorithm.evaluated(simulation.state_of(state, 0).server)


def copied(simulation: Simulation, state: SimulationState) -> SimulationState:
  """A state that is the caller's to keep; those stored on disk stay there."""
  def copy(x):
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
      return jax.random.wrap_key_data(
          jax.random.key_data(x).copy(), impl=jax.random.key_impl(x))
    return x.copy()
  return jax.tree.map(copy, simulation.state_of(state, 0))


def follow(
    generator: Generator[Step, None, Ended],
    on_step: Callable[[Step], None] = lambda step: None,
) -> Ended:
  """Takes all steps; `on_step` is called after each."""
  with contextlib.closing(generator):
    while True:
      try:
        step = next(generator)
      except StopIteration as ended:
        return ended.value
      on_step(step)

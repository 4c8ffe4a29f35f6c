"""The loop of a run: dispatches, metrics, checkpoints, a clean stop."""

import contextlib
import fcntl
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from fedjax_sim.experiment import (
  client_checkpoints,
  metrics,
  processes,
  reporting,
)
from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.simulation.engine import SimulationState
from fedjax_sim.simulation.placement import sharding
from fedjax_sim.simulation.records import DivergenceError, Row
from fedjax_sim.simulation.simulation import Simulation
from fedjax_sim.simulation.traffic import Traffic

METRICS_FILE = 'metrics.jsonl'


class Cadence(NamedTuple):
  """How a run proceeds; none of it changes what a round computes.

  Attributes:
    rounds: rounds in all.
    evaluate: round (from 0) -> whether to evaluate after it.
    rounds_per_dispatch: at most; None is about a second's worth.
    checkpoint_seconds: seconds between checkpoints.
    stop_on_divergence: whether a NaN or infinity ends the run.
    targets: test accuracies to announce.
  """

  rounds: int
  evaluate: Callable[[int], bool]
  rounds_per_dispatch: int | None
  checkpoint_seconds: float
  stop_on_divergence: bool
  targets: Sequence[float]


class Outcome(NamedTuple):
  """Where a run ended.

  Attributes:
    state: the state after the last good round.
    interrupted: it was stopped by a signal before its last round.
  """

  state: SimulationState
  interrupted: bool


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
  """Holds the run's folder for this process.

  Raises:
    ValueError: another process runs in it.
  """
  with open(path / '.lock', 'w') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise ValueError(
          f'workdir {str(path)!r} is in use by another process.') from error
    yield


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
  """Collects SIGINT and SIGTERM; a second SIGINT interrupts at once."""
  received: list[int] = []
  earlier = {}

  def handle(number, frame):
    del frame
    received.append(number)
    print('\nstopping after this dispatch; once more to stop at once',
          flush=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)

  try:
    for number in (signal.SIGINT, signal.SIGTERM):
      earlier[number] = signal.signal(number, handle)
    yield received
  finally:
    for number, handler in earlier.items():
      signal.signal(number, handler)


def restore(
    checkpoints: Checkpoints, folder: Path, initial: SimulationState
) -> SimulationState:
  """The state to go on from; metrics of rounds after it are dropped.

  Those rounds are computed again, to the same bits.

  Raises:
    ValueError: see `client_checkpoints.restore`; nothing is dropped then.
  """
  latest = checkpoints.latest()
  state = initial if latest is None else client_checkpoints.restore(
      checkpoints, latest, initial, folder)
  file = folder / METRICS_FILE
  if processes.is_first() and file.exists():
    metrics.truncate_after(file, latest or 0)
  return state


def train(
    simulation: Simulation,
    program: jax.stages.Compiled,
    state: SimulationState,
    cadence: Cadence,
    *,
    folder: Path,
    checkpoints: Checkpoints,
    traffic: Traffic,
    begun: float | None = None,
    on_rows: Callable[[Sequence[Row]], None] = lambda rows: None,
) -> Outcome:
  """Runs to the last round, or until a signal asks to stop.

  Metrics are appended before the checkpoint that covers them is written, so
  that a kill at any moment leaves a checkpoint and at least its metrics.

  Args:
    simulation: what to run.
    program: compiled for it.
    state: where to start.
    cadence: how to proceed.
    folder: gets metrics.jsonl.
    checkpoints: gets the state now and then, and at the end.
    traffic: of a client in a round.
    begun: when the process began its work, to tell when the first round is
      done; None doesn't tell.
    on_rows: called with the new rows.

  Raises:
    DivergenceError: see `Simulation.dispatches`; metrics up to the round
      before are written, and no checkpoint after it.
  """
  start = int(state.server.round)
  progress = reporting.Progress(
      start, cadence.rounds, cadence.targets, begun)
  saved_at = time.monotonic()
  told: list[DivergenceError] = []

  def record(rows):
    if not processes.is_first():
      return
    for row in rows:
      row['bytes_up'] = row['clients'] * traffic.up
      row['bytes_down'] = row['clients'] * traffic.down
    metrics.append(folder / METRICS_FILE, rows)
    progress.update(rows)
    on_rows(rows)

  def diverged(error):
    if cadence.stop_on_divergence:
      raise error
    if not told:
      print(f'{error} Carrying on, as on_divergence says.', flush=True)
      told.append(error)

  with contextlib.closing(progress), stop_requests() as signals:
    done = start
    dispatches = simulation.dispatches(
        program, state, cadence.rounds, evaluate=cadence.evaluate,
        rounds_per_dispatch=cadence.rounds_per_dispatch,
        on_divergence=diverged)
    try:
      for state, rows in dispatches:
        record(rows)
        done = rows[-1]['round']
        due = time.monotonic() - saved_at > cadence.checkpoint_seconds
        stop, due = sharding.agree(bool(signals), due)
        if done == cadence.rounds or stop or due:
          client_checkpoints.save(checkpoints, done, state)
          saved_at = time.monotonic()
        if stop:
          break
    except DivergenceError as error:
      record(error.rows)
      raise
  return Outcome(state, interrupted=done < cadence.rounds)

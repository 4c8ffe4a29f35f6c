"""The loop of runs: records to files, checkpoints, a clean stop.

A single run, the members of a sweep and the cells of `benchmarks.paper` go
through it.
"""

import contextlib
import fcntl
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fedjax_sim.core import files as parts
from fedjax_sim.core.types import PyTree
from fedjax_sim.experiment import metrics, processes
from fedjax_sim.simulation import in_time, selecting
from fedjax_sim.simulation import records as records_lib
from fedjax_sim.simulation.drive import Progress, Runs, drive
from fedjax_sim.simulation.placement import sharding
from fedjax_sim.simulation.records import DivergenceError, Record
from fedjax_sim.simulation.traffic import Traffic

METRICS_FILE = 'metrics.jsonl'


class Keeper(Protocol):
  """Keeps checkpoints; such as `Checkpoints`."""

  def latest(self) -> int | None:
    """The number of the newest one."""

  def newest_good(self) -> int | None:
    """The number of the newest one that is as it was written."""

  def notes(self, number: int) -> dict[str, Any]:
    """What was saved with one."""

  def save(self, number: int, state: PyTree, notes: dict[str, Any]) -> None:
    """Writes one; on return it is on disk."""

  def restore(self, number: int, like: PyTree) -> PyTree:
    """Reads one."""


class Cadence(NamedTuple):
  """How a run proceeds; none of it changes what a round computes.

  Attributes:
    rounds: rounds in all.
    evaluate: round (from 0) -> whether to evaluate after it.
    rounds_per_dispatch: at most; None is about a second's worth.
    checkpoint_seconds: seconds between checkpoints.
    stop_on_divergence: whether a NaN or infinity ends a run.
    pause: round (from 0) -> whether what follows the run needs the state
      after it; a dispatch ends there.
  """

  rounds: int
  evaluate: Callable[[int], bool]
  rounds_per_dispatch: int | None = None
  checkpoint_seconds: float = 0.0
  stop_on_divergence: bool = True
  pause: Callable[[int], bool] = lambda r: False


class NoCheckpoints:
  """A `Keeper` that keeps nothing."""

  def latest(self) -> None:
    return None

  def newest_good(self) -> None:
    return None

  def notes(self, number: int) -> dict[str, Any]:
    raise KeyError(number)

  def save(self, number: int, state: PyTree, notes: dict[str, Any]) -> None:
    pass


class Outcome(NamedTuple):
  """Where runs ended.

  Attributes:
    state: after the last dispatch.
    diverged: member -> the first NaN or infinity that was seen now.
    interrupted: they were asked to stop before the last round.
  """

  state: PyTree
  diverged: dict[int, DivergenceError]
  interrupted: bool


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
  """Holds the run's folder for this process.

  Raises:
    ValueError: another process runs in it.
  """
  with open(path / '.lock', 'w') as lock:  # A dead process holds none.
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise ValueError(
          f'workdir {str(path)!r} is in use by another process.') from error
    parts.remove_parts(path)
    yield


@contextlib.contextmanager
def stop_requests(
    signals: Sequence[int] = (signal.SIGINT, signal.SIGTERM)
) -> Iterator[list[int]]:
  """Collects signals; a SIGINT after the first one interrupts at once.

  Only Python's main thread may ask for them; in another one none come.
  """
  received: list[int] = []
  earlier = {}

  def handle(number, frame):
    del frame
    received.append(number)
    print('\nstopping after this dispatch; once more to stop at once',
          flush=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)

  try:
    if threading.current_thread() is threading.main_thread():
      for number in signals:
        earlier[number] = signal.signal(number, handle)
    yield received
  finally:
    for number, handler in earlier.items():
      signal.signal(number, handler)


def restore(
    runs: Runs, initial: PyTree, checkpoints: Keeper,
    files: Mapping[int, Path],
) -> PyTree:
  """The state to go on from; records of rounds after it are dropped.

  Those rounds are computed again, to the same bits. Records that are damaged or
  missing stay lost; that is said.

  Args:
    runs: what to run.
    initial: the state before the first round.
    checkpoints: of an earlier part, if there was one.
    files: member -> its metrics.

  Raises:
    ValueError: no checkpoint can be used, though there are some; nothing is
      dropped then.
  """
  latest = checkpoints.newest_good()
  state = initial if latest is None else checkpoints.restore(latest, initial)
  if processes.is_first():
    last = done = runs.done(state)
    if latest is not None:
      last = _recorded(checkpoints.notes(latest), done)
    for member, file in files.items():
      _restore_metrics(file, done[member], last[member])
  return state


def _restore_metrics(file: Path, done: int, last: int) -> None:
  """Leaves the records up to a checkpoint, and says which are not there.

  Args:
    file: the metrics.
    done: rounds that the checkpoint has done.
    last: of the last record when it was written.
  """
  # Round 0 is evaluated by whoever begins with it.
  damaged = metrics.truncate_after(file, done or -1)
  if damaged:
    print(f'warning: {file}, line {", ".join(map(str, damaged))}: damaged, '
          'and dropped. The file as it was is kept beside it.', flush=True)
  missing = metrics.missing_rounds(metrics.read(file), last)
  if missing:
    print(f'warning: {file} has no record of {metrics.ranges(missing)}, which '
          'can\'t be obtained without a new run; what depends on it is '
          'unknown.', flush=True)


def _recorded(notes: dict[str, Any], done: dict[int, int]) -> dict[int, int]:
  """Member -> the round of its last record when a checkpoint was written."""
  recorded = notes.get('recorded', {})
  return {i: recorded.get(str(i), rounds) for i, rounds in done.items()}


def diverged(runs: Runs, state: PyTree, checkpoints: Keeper) -> dict[int, int]:
  """The members that have diverged, from a state that `restore` has read.

  Returns:
    Member -> its last good round; its records end there, before its state.
  """
  latest = checkpoints.latest()
  if latest is None:
    return {}
  done = runs.done(state)
  recorded = _recorded(checkpoints.notes(latest), done)
  return {i: recorded[i] for i in done if recorded[i] < done[i]}


def train(
    runs: Runs,
    state: PyTree,
    cadence: Cadence,
    *,
    files: Mapping[int, Path],
    checkpoints: Keeper,
    traffic: Traffic,
    active: set[int] | None = None,
    stop: Callable[[], bool] = lambda: False,
    notes: Callable[[int, Record], Record] = lambda member, record: {},
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
  """Runs to the last round, or until asked to stop.

  Records are appended before the checkpoint that covers them is written, so
  that a kill at any moment leaves a checkpoint and at least its records. Once
  all that ran have diverged no checkpoint is written any more: the last one is
  good.

  Args:
    runs: what to run.
    state: where to start.
    cadence: how to proceed.
    files: member -> its metrics, which get its records.
    checkpoints: get the state now and then, and at the end, under the number
      of rounds that all members have done together.
    traffic: of a client in a round.
    active: the members that are to run, None for all; see `drive`.
    stop: whether to stop, asked after each dispatch.
    notes: what a member's record says besides.
    on_progress: called with the progress of each dispatch in the first process,
      once its records are written; may take out members.
  """
  steps = proceed(
      runs, state, cadence, files=files, checkpoints=checkpoints,
      traffic=traffic, active=active, stop=stop, notes=notes)
  while True:
    try:
      progress = next(steps)
    except StopIteration as ended:
      return ended.value
    if processes.is_first():
      on_progress(progress)


def proceed(
    runs: Runs,
    state: PyTree,
    cadence: Cadence,
    *,
    files: Mapping[int, Path],
    checkpoints: Keeper,
    traffic: Traffic,
    active: set[int] | None = None,
    stop: Callable[[], bool] = lambda: False,
    notes: Callable[[int, Record], Record] = lambda member, record: {},
) -> Generator[Progress, None, Outcome]:
  """`train` for who follows it, in all processes.

  It yields the progress of each dispatch once its records are written, and
  before the checkpoint that covers them is; it returns the outcome. Closing it
  early keeps what is done. What `notes` says of a member's record is added to
  it.
  """
  active = set(runs.done(state)) if active is None else active
  began, diverged = set(active), {}
  saved_at, asked = time.monotonic(), False
  lost = lambda: cadence.stop_on_divergence and diverged.keys() == began
  for progress in drive(
      runs, state, cadence.rounds, evaluate=cadence.evaluate, active=active,
      rounds_per_dispatch=cadence.rounds_per_dispatch,
      stop_on_divergence=cadence.stop_on_divergence, pause=cadence.pause):
    state = progress.state
    diverged = progress.diverged | diverged
    _complete(progress, traffic, notes)
    if processes.is_first():
      for member in files.keys() & progress.records.keys():
        metrics.append(files[member], progress.records[member])
    try:
      yield progress
    except GeneratorExit:
      if not lost():
        _save(runs, state, checkpoints, files)
      raise
    due = time.monotonic() - saved_at > cadence.checkpoint_seconds
    asked, due = sharding.agree(bool(stop()), due)
    if (asked or due) and not lost():
      _save(runs, state, checkpoints, files)
      saved_at = time.monotonic()
    if asked:
      break
  if not lost():
    _save(runs, state, checkpoints, files)
  done = runs.done(state)
  return Outcome(state, diverged, interrupted=bool(asked) and any(
      done[member] < cadence.rounds for member in active))


def _save(
    runs: Runs, state: PyTree, checkpoints: Keeper, files: Mapping[int, Path]
) -> None:
  number = sum(runs.done(state).values())
  if number != checkpoints.latest():
    recorded = {str(i): metrics.last_round(file) for i, file in files.items()
                } if processes.is_first() else {}
    checkpoints.save(number, state, {'recorded': recorded})


def _complete(
    progress: Progress, traffic: Traffic,
    notes: Callable[[int, Record], Record],
) -> None:
  """Adds to the new records what the program doesn't know."""
  for member, records in progress.records.items():
    for record in records:
      traffic.add(record)
      in_time.add_lost(record)
      selecting.add_cost(record)
      record.update(notes(member, record))


def evaluate_initial(
    runs: Runs, state: PyTree, files: Mapping[int, Path]
) -> dict[int, Record]:
  """Evaluates the models of members that have done no round.

  Args:
    runs: what to run.
    state: where to start.
    files: member -> its metrics, which get the records.

  Returns:
    Member -> its record of round 0; {} where there is nothing to evaluate on.
  """
  found = {}
  for member, done in runs.done(state).items():
    begun = time.perf_counter()
    sums = {} if done else runs.evaluate(state, member)
    if sums:
      found[member] = records_lib.initial_record(
          sums, time.perf_counter() - begun) | runs.first_notes(member)
      if member in files and processes.is_first():
        metrics.append(files[member], [found[member]])
  return found

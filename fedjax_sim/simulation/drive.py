"""The loop over compiled rounds: windows, groups of rounds, records.

Single runs and the members of a sweep go through it alike; a single run is one
member. It plans a window of rounds on the host while the devices compute the
window before, runs a group of rounds at a time, about a second's worth, and
turns what comes back into a record for each round.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import jax
import numpy as np

from fedjax_sim.core.types import MetricSums, PyTree
from fedjax_sim.simulation import records as records_lib
from fedjax_sim.simulation.placement import sharding
from fedjax_sim.simulation.records import DivergenceError, Record
from fedjax_sim.simulation.rounds import RoundOutputs, SimulationState
from fedjax_sim.simulation.traffic import Traffic

# A dispatch is about this long: short enough for progress and Ctrl-C, long
# enough that the host's part of it doesn't show.
_DISPATCH_SECONDS = 1.0

Evaluate = Callable[[int], bool]


class Window(Protocol):
  """Planned rounds.

  Attributes:
    start: the first round, from 0.
    stop: one after the last.
    evaluate: for each round, whether to evaluate after it.
  """

  start: int
  stop: int
  evaluate: Sequence[bool]


class Runs(Protocol):
  """What the loop drives: a `Simulation`, or the members of a `Sweep`.

  Members are numbered from 0; a simulation has one. States are PyTrees that
  only these functions look into; they can be written to checkpoints.

  Attributes:
    capacity: R, the most rounds of a window.
    looks_ahead: whether a window can be planned before the rounds that come
      before it are done.
  """

  capacity: int
  looks_ahead: bool

  def done(self, state: PyTree) -> dict[int, int]:
    """Member -> the rounds that it has done."""

  def spread(self, state: PyTree, active: set[int]) -> PyTree:
    """The state with the active members spread evenly over the devices."""

  def turn(
      self, state: PyTree, members: Sequence[int], seconds: float | None
  ) -> Sequence[int]:
    """Those of the members that run next.

    A round of one member has taken `seconds`, None if that is not known yet.
    """

  def window(
      self, start: int, stop: int, evaluate: Evaluate, *, state: PyTree,
      active: set[int],
  ) -> Window:
    """Plans as many rounds from `start` as the program can take at once."""

  def advance(
      self, state: PyTree, window: Window, turn: Sequence[int], first: int,
      last: int,
  ) -> tuple[PyTree, RoundOutputs]:
    """Starts rounds `first` to `last` - 1 of a window, counted from its start.

    Returns:
      (what to give to `commit`, outputs), on the devices. The state is donated.
    """

  def commit(
      self, state: PyTree, advanced: PyTree, window: Window,
      turn: Sequence[int], first: int, last: int, outputs: RoundOutputs,
  ) -> tuple[PyTree, dict[int, list[Record]]]:
    """The state after these rounds, from that before and what they gave.

    Returns:
      (the state, member -> for each of its rounds what else a record says).
    """

  def outputs_of(
      self, state: PyTree, outputs: RoundOutputs, member: int
  ) -> RoundOutputs:
    """One member's outputs [R], from those on the host."""

  def state_of(self, state: PyTree, member: int) -> SimulationState:
    """One member's state, whole on one device of each process."""

  def evaluate(self, state: PyTree, member: int) -> dict[str, MetricSums]:
    """One member's model on each evaluation set; {} if there is none."""

  def first_notes(self, member: int) -> Record:
    """What else the record of round 0 says."""

  def bytes_per_client(self) -> Traffic:
    """Bytes that a client receives and sends in a round, uncompressed."""

  def clients_of(self, window: Window, member: int, i: int) -> np.ndarray:
    """The client id in each slot of round i of a window, [D, blocks, W]."""


class Progress(NamedTuple):
  """What a dispatch has done.

  Attributes:
    state: after it. That of a member that has diverged is not good.
    records: member -> a record for each of its new rounds. One that has
      diverged ends with its last good round, unless told to go on.
    diverged: member -> what was seen in the first bad round.
  """

  state: PyTree
  records: dict[int, list[Record]]
  diverged: dict[int, DivergenceError]


def drive(
    runs: Runs,
    state: PyTree,
    stop: int,
    *,
    evaluate: Evaluate = lambda r: True,
    active: set[int] | None = None,
    rounds_per_dispatch: int | None = None,
    stop_on_divergence: bool = True,
    pause: Evaluate = lambda r: False,
) -> Iterator[Progress]:
  """Runs rounds up to number `stop`, a group of them at a time.

  Args:
    runs: what to run.
    state: where to start; it is donated, so use only what comes back. Client
      states that are stored on disk are changed there.
    stop: the number of rounds done at the end.
    evaluate: round (from 0) -> whether to evaluate after it.
    active: the members that are to run, None for all. Who diverges is taken
      out, and the caller may take out others between dispatches.
    rounds_per_dispatch: how many at most; None is about a second's worth.
    stop_on_divergence: whether a member ends with a NaN or an infinity.
    pause: round (from 0) -> whether a dispatch ends after it, so that the
      caller sees the state of that round.

  Yields:
    A `Progress` for each dispatch. With long rounds it may be of a part of the
    members only; those that are behind come first.
  """
  done = runs.done(state)
  active = set(done) if active is None else active
  pace = _Pace(rounds_per_dispatch)
  window, following, spread = None, None, None
  while behind := [i for i in sorted(active) if done[i] < stop]:
    if spread != active:
      state, spread = runs.spread(state, active), set(active)
      window, following = None, None
    start, begun = min(done[i] for i in behind), time.perf_counter()
    if window is None or start >= window.stop:
      window, following = following, None
    if window is None or not window.start <= start < window.stop:
      window = runs.window(
          start, stop, evaluate, state=state, active=active)
    turn = runs.turn(
        state, [i for i in behind if done[i] == start], pace.seconds)
    first = start - window.start
    count = min(pace.rounds(len(turn)), window.stop - start)
    count = next((i + 1 for i in range(count) if pause(start + i)), count)
    if runs.looks_ahead:  # Else planning is a part of each round.
      begun = time.perf_counter()
    advanced, outputs = runs.advance(
        state, window, turn, first, first + count)
    if following is None and window.stop < stop and runs.looks_ahead:
      # On the host, while the devices work.
      following = runs.window(
          window.stop, stop, evaluate, state=state, active=active)
    outputs = jax.device_get(outputs)
    state, notes = runs.commit(
        state, advanced, window, turn, first, first + count, outputs)
    pace.took(time.perf_counter() - begun, count, len(turn))
    done.update({i: start + count for i in turn})
    progress = Progress(state, {}, {})
    for member in turn:
      found, error = _records(
          runs, runs.outputs_of(state, outputs, member), window, member,
          range(first, first + count), notes[member], pace.last)
      if error is not None:
        progress.diverged[member] = error
        found = error.records if stop_on_divergence else found
      progress.records[member] = found
    if stop_on_divergence:
      active.difference_update(progress.diverged)
    yield progress


class _Pace:
  """How many rounds make a dispatch.

  Attributes:
    seconds: of one member's round, on the slowest process; None at first, and
      where the number of rounds is given.
    last: of one member's round in the last dispatch, on this process.
  """

  def __init__(self, rounds_per_dispatch: int | None):
    self._given = rounds_per_dispatch
    self._count = 1
    self.seconds: float | None = None
    self.last = 0.0

  def rounds(self, members: int) -> int:
    """For the next dispatch, with so many members."""
    if self._given is not None:
      return self._given
    if self.seconds is None:
      return 1
    fitting = int(_DISPATCH_SECONDS / (self.seconds * members))
    return max(1, min(2 * self._count, fitting))

  def took(self, seconds: float, rounds: int, members: int) -> None:
    """Notes the time of a dispatch."""
    self.last = seconds / rounds / members
    self._count = rounds
    if self._given is None:
      (self.seconds,) = sharding.agree(self.last)


def _records(
    runs: Runs, outputs: RoundOutputs, window: Window, member: int,
    rounds: range, notes: list[Record], seconds: float,
) -> tuple[list[Record], DivergenceError | None]:
  """One member's records of some rounds of a window, and its first bad round.
  """
  found, error = [], None
  for i, note in zip(rounds, notes, strict=True):
    one = jax.tree.map(lambda x, i=i: x[i], outputs)
    number = window.start + i
    if error is None and not records_lib.is_good(one):
      error = records_lib.divergence(
          number + 1, one, runs.clients_of(window, member, i), list(found))
    found.append(
        records_lib.record(number + 1, one, window.evaluate[i])
        | note | {'seconds': seconds})
  return found, error

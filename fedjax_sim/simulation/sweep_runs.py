"""The members of a sweep, as `drive` drives them.

Members that are taken out leave their places empty; those that go on are
spread again over the devices.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from fedjax_sim.core import frozen
from fedjax_sim.core.types import MetricSums, Slot
from fedjax_sim.simulation import (
    evaluation,
    in_time,
    round_notes,
    simulation,
    sweep_program,
)
from fedjax_sim.simulation import plan as plan_lib
from fedjax_sim.simulation import traffic as traffic_lib
from fedjax_sim.simulation.placement import sharding
from fedjax_sim.simulation.records import Record
from fedjax_sim.simulation.rounds import SimulationState
from fedjax_sim.simulation.sweep import Member, Sweep, SweepState

# Where rounds are long, a dispatch takes no more members than this allows.
_LONGEST_SECONDS = 15.0


class Window(NamedTuple):
  """Planned rounds `start` to `stop` - 1 of the members that are active.

  Attributes:
    start: the first round, from 0.
    stop: one after the last.
    slots: Slot [places, R, 1, blocks, W] on the devices.
    evaluate: for each round.
    padded_share: member -> for each round, see `plan.padded_share`.
    clients: member -> int [R, 1, blocks, W], the client in each slot.
    places: member -> int [R, 1, blocks, W], its place in the cohort.
  """

  start: int
  stop: int
  slots: Slot
  evaluate: list[bool]
  padded_share: dict[int, np.ndarray]
  clients: dict[int, np.ndarray]
  places: dict[int, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SweepRuns:
  """What `drive.Runs` describes; its states are `SweepState`s.

  Attributes:
    sweep: the program and the data.
    members: at most as many as it has places.
  """

  sweep: Sweep
  members: Sequence[Member]

  looks_ahead = True

  def __post_init__(self):
    if any(self.sweep.make_sampler(one.seed).selector for one in self.members):
      raise ValueError(
          'sampler must not choose by losses in a sweep of runs that share a '
          'program, since each run would have to wait for all others: run them '
          'one after the other. Mark a builder of your own with '
          'data.selector.by_losses, and a sweep of a config does so.')

  @property
  def capacity(self) -> int:
    return self.sweep.capacity

  def done(self, state: SweepState) -> dict[int, int]:
    return {int(member): int(done) for member, done in zip(
        state.members, state.done, strict=True) if member >= 0}

  def spread(self, state: SweepState, active: set[int]) -> SweepState:
    placement = self.sweep.placement
    running = np.isin(state.members, list(active))
    per_device = running.reshape(placement.size, -1).sum(axis=1)
    if np.ptp(per_device) < 2:
      return state
    order = np.argsort(~running, kind='stable')
    order = order.reshape(-1, placement.size).T.ravel()
    moved = jax.jit(
        lambda tree: jax.tree.map(lambda x: x[order], tree),
        out_shardings=placement.split())(state.states)
    return SweepState(
        moved, state.members[order], state.done[order], state.clock)

  def turn(
      self, state: SweepState, members: Sequence[int], seconds: float | None
  ) -> list[int]:
    here = np.isin(state.members, members)
    if seconds is not None:  # One round of them is not too long a dispatch.
      devices = self.sweep.placement.size
      most = max(1, int(_LONGEST_SECONDS / (seconds * devices)))
      by_device = here.reshape(devices, -1)
      here = (by_device & (np.cumsum(by_device, axis=1) <= most)).ravel()
    return state.members[here].tolist()

  def window(
      self, start: int, stop: int, evaluate: Callable[[int], bool], *,
      state: SweepState, active: set[int],
  ) -> Window:
    stop = min(start + self.capacity, stop)
    plans, padded = {}, {}
    for i in sorted(active):
      name = self.members[i].seed, self.members[i].federation
      if name not in plans:
        plan = self.sweep.plan_of(*name, start, stop - start)
        plans[name] = plan, plan_lib.padded_share(
            plan, self.sweep.local_steps(name[1]))
      padded[i] = plans[name][1]
    slots = {i: plans[self.members[i].seed, self.members[i].federation][0].slots
             for i in active}
    empty = jax.tree.map(np.zeros_like, next(iter(slots.values())))
    stacked = jax.tree.map(
        lambda *x: np.stack(x), *(slots.get(i, empty) for i in state.members))
    return Window(
        start, stop,
        sharding.to_devices(stacked, self.sweep.placement.split()),
        [evaluate(r) for r in range(start, stop)], padded,
        {i: one.client for i, one in slots.items()},
        {i: one.place for i, one in slots.items()})

  def advance(
      self, state: SweepState, window: Window, turn, first: int, last: int):
    sweep = self.sweep
    keys, numbers = sweep.numbers(self.members, state.members)
    evaluate = np.zeros(self.capacity, bool)
    evaluate[:len(window.evaluate)] = window.evaluate
    groups = sweep_program.turn(
        np.isin(state.members, turn), sweep.placement.size, sweep.together)
    return sweep.program.compiled(
        sweep.examples,
        sweep_program.Members(state.states, window.slots, numbers, keys),
        sharding.to_devices(evaluate, sweep.placement.everywhere),
        sharding.to_devices(groups, sweep.placement.split()),
        np.int32(first), np.int32(last), sweep.eval_data, sweep.frozen)

  def commit(
      self, state: SweepState, advanced: SimulationState, window, turn,
      first: int, last: int, outputs,
  ) -> tuple[SweepState, dict[int, list[Record]]]:
    ran = np.isin(state.members, turn)
    notes = {member: [self.notes(window, member, i)
                      for i in range(first, last)] for member in turn}
    clock = state.clock
    if self.recounts:
      clock = clock.copy()
      for member in turn:
        own = self.outputs_of(state, outputs, member)
        for i, note in zip(range(first, last), notes[member], strict=True):
          clock[member], more = round_notes.recounted(
              self._timeline(member), self._traffic, float(clock[member]),
              window.start + i, window.places[member][i],
              jax.tree.map(lambda x, i=i: x[i], own))
          note |= more
    after = SweepState(advanced, state.members, (
        state.done + (last - first) * ran).astype(np.int32), clock)
    return after, notes

  def outputs_of(self, state: SweepState, outputs, member: int):
    (place,) = np.flatnonzero(state.members == member)
    return jax.tree.map(lambda x: x[place], outputs)

  def state_of(self, state: SweepState, member: int) -> SimulationState:
    own = sharding.gather(state.of(member))
    return own._replace(server=frozen.put(own.server, self.sweep.frozen))

  def evaluate(self, state: SweepState, member: int) -> dict[str, MetricSums]:
    sweep = self.sweep
    if not sweep.eval_data:
      return {}
    server = self.state_of(state, member).server
    algorithm = sweep.make_algorithm(**self.members[member].hyperparameters)
    return jax.device_get(self._evaluate(
        algorithm.evaluated(server), sharding.gather(sweep.eval_data)))

  @functools.cached_property
  def _evaluate(self):
    evaluate = evaluation.of_sets(self.sweep.model)

    def run(*args):
      with self.sweep.placement.tracing():
        return evaluate.finish(evaluate.sums(*args))

    return jax.jit(run)

  def notes(self, window: Window, member: int, i: int) -> Record:
    """What else a record says of round i of a window."""
    return {'padded_steps': float(window.padded_share[member][i]),
            'imbalance': 0.0, 'devices': 1, 'lanes': self.sweep.lanes,
            **in_time.fields(self._timeline(member), window.start + i)}

  def first_notes(self, member: int) -> Record:
    return in_time.first_fields(self._timeline(member))

  def clients_of(self, window: Window, member: int, i: int) -> np.ndarray:
    data = self.sweep.federations[self.members[member].federation]
    return simulation.ids(data, window.clients[member][i])

  def bytes_per_client(self) -> traffic_lib.Traffic:
    return self._traffic

  @functools.cached_property
  def _traffic(self) -> traffic_lib.Traffic:
    return self.sweep.bytes_per_client()

  @functools.cached_property
  def recounts(self) -> bool:
    """Whether simulated time is told by what messages have cost."""
    sweep = self.sweep
    return in_time.recounts(
        self._timeline(0), sweep.make_algorithm(**sweep.example),
        sweep.federations[0].examples, sweep.variables)

  def cohort(self, member: int, round_number: int) -> list[str]:
    """The ids of a member's clients in a round, from 0."""
    one, known = self.members[member], self._timeline(member)
    sampler = (self.sweep.make_sampler(one.seed) if known is None
               else known.as_sampler())
    data = self.sweep.federations[one.federation]
    return [data.client_ids[k] for k in sampler.sample(round_number)]

  def _timeline(self, member: int) -> in_time.Known | None:
    one = self.members[member]
    return self.sweep.timeline(one.seed, one.federation)

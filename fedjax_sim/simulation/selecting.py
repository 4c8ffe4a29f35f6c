"""Rounds whose cohorts a selector chooses, once the rounds before are done.

In order: the selector asks some clients for their losses, or none, and
chooses; where rounds take time the round begins when the last of those asked
has answered; the round is computed; its clients tell what the selector hears.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fedjax_sim.data.selector import Feedback, Question, Selector
from fedjax_sim.simulation.host_state import HostState
from fedjax_sim.simulation.plan import Plan
from fedjax_sim.simulation.records import Record
from fedjax_sim.simulation.rounds import RoundOutputs
from fedjax_sim.systems import timed_round
from fedjax_sim.systems.timed_round import TimedRound
from fedjax_sim.systems.timeline import Timeline

# A loss, as a client tells it.
_LOSS_BITS = 32


class Chosen(NamedTuple):
  """A round that is ready to be computed.

  Attributes:
    cohort: int [S], clients.
    memory: the selector's, after the choice.
    asked: clients whose losses were measured, int [n].
    seconds: that this took, simulated; 0 where rounds take no time.
    timed: the round in time, None where it takes none.
  """

  cohort: np.ndarray
  memory: object
  asked: np.ndarray
  seconds: float = 0.0
  timed: TimedRound | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Selecting:
  """How cohorts are chosen.

  Attributes:
    selector: chooses.
    wanted: M.
    sizes: int [N], examples of each client.
    timeline: None where rounds take no time.
  """

  selector: Selector
  wanted: int
  sizes: np.ndarray
  timeline: Timeline | None

  def init(self) -> HostState:
    """Before the first round."""
    clock = None if self.timeline is None else np.zeros(())
    return HostState(clock, self.selector.init())

  def choose(
      self, host: HostState, number: int,
      measure: Callable[[np.ndarray], np.ndarray],
  ) -> Chosen:
    """The cohort of a round.

    Args:
      host: before it.
      number: of the round, from 0.
      measure: clients int [n] -> their losses float64 [n].
    """
    asked = [np.zeros(0, np.int64)]

    def ask(clients):
      asked.append(clients)
      return measure(clients)

    ask_for = lambda count, among=None, seconds=None: self.selector.choose(
        host.memory, Question(number, count, among, ask, seconds))
    if self.timeline is None:
      cohort, memory = ask_for(self.wanted)
      return Chosen(cohort, memory, asked[-1])
    known = self.timeline
    begin, pool = known.eligible(float(host.clock))
    count = known.max_cohort if pool is None else min(
        known.max_cohort, len(pool))
    cohort, memory = ask_for(count, pool, self.nominal_seconds)
    seconds = self._measuring(asked[-1])
    return Chosen(cohort, memory, asked[-1], seconds, known.hold(
        number, cohort, begin + seconds, has_model=len(asked[-1]) > 0))

  def knowing_nothing(self) -> Chosen:
    """A first round of whom it would choose if all losses were alike."""
    return self.choose(
        self.init(), 0, lambda clients: np.zeros(len(clients)))

  @property
  def nominal_seconds(self) -> np.ndarray:
    """float64 [N], what a round is known to take each client beforehand."""
    known = self.timeline
    return timed_round.needed(known.profiles, known.costs, known.costs.steps)

  def learn(
      self, chosen: Chosen, clock: np.ndarray | None, number: int, plan: Plan,
      i: int, outputs: RoundOutputs,
  ) -> HostState:
    """What is known after the round, from what its clients have told.

    Args:
      chosen: the round.
      clock: after it.
      number: of the round, from 0.
      plan: of the window.
      i: which of its rounds it is.
      outputs: of the round, on the host.
    """
    told = {'loss': outputs.told.loss, 'squares': outputs.told.squares}.get(
        self.selector.hears)
    if told is None:
      return HostState(clock, chosen.memory)
    total, count = np.asarray(told, np.float64).reshape(-1, 2).T
    clients = np.asarray(plan.slots.client[i]).ravel()[count > 0]
    order = np.argsort(clients, kind='stable')
    values = (total[count > 0] / count[count > 0])[order]
    return HostState(clock, self.selector.learn(
        chosen.memory, Feedback(number, clients[order], values)))

  def notes(self, chosen: Chosen, told: int, down_bytes: float) -> Record:
    """What choosing has cost, for the record.

    Args:
      chosen: the round.
      told: clients that have told a loss after it.
      down_bytes: of the model, as it was sent.
    """
    others = np.setdiff1d(chosen.asked, chosen.cohort)
    told = told if self.selector.hears else 0
    found = {
        'measured': len(chosen.asked),
        'bytes_down_selection': len(others) * down_bytes,
        'bytes_up_selection': (len(chosen.asked) + told) * _LOSS_BITS / 8}
    if chosen.timed is not None:
      found['selection_seconds'] = chosen.seconds
    return found

  def _measuring(self, clients: np.ndarray) -> float:
    """Seconds until the last of some clients has told its loss."""
    if not len(clients):
      return 0.0
    profiles, costs = self.timeline.profiles, self.timeline.costs
    sizes, batch = self.sizes[clients], self.selector.batch_size
    measured = sizes if batch is None else np.minimum(sizes, batch)
    steps = self.selector.share * costs.steps[clients] * (
        measured / np.maximum(sizes, 1))
    return float(np.max(
        costs.down_bits / profiles.down_bps[clients]
        + steps * profiles.step_seconds[clients]
        + _LOSS_BITS / profiles.up_bps[clients]))


def add_cost(record: Record) -> None:
  """Adds what choosing has cost to a round's bytes."""
  for name in ('bytes_down', 'bytes_up'):
    record[name] += record.get(f'{name}_selection', 0)

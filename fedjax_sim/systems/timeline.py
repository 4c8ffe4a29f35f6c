"""The timeline of a run: who is chosen, who reports, and what time it is.

All of it is known before anything is computed. A round depends on the seed, its
number, what is known of a client's cost beforehand, and the time at which it
begins; that is the sum of the durations before it. So a run that goes on from a
checkpoint finds the same timeline, by going through it from the first round: a
fraction of a millisecond each.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from fedjax_sim.data.sampling import Sampler
from fedjax_sim.systems import timed_round
from fedjax_sim.systems.eligible_now import EligibleNow
from fedjax_sim.systems.profiles import Population, Profiles
from fedjax_sim.systems.report_window import Reporting
from fedjax_sim.systems.timed_round import Costs, TimedRound

# Seconds that a server waits for eligible clients at most.
_LONGEST_WAIT = 28 * 86400.0
# Rounds that are kept: those of two windows, and of their records.
_KEPT = 512


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
  """Rounds in simulated time; `timeline` makes one.

  Attributes:
    profiles: of all clients.
    reporting: the server's rule.
    sampler: chooses the clients.
    costs: of a client in a round.
    seed: of failures.
    after: the round's number, from 0 -> seconds from the last report to the end
      of a round that has not failed, such as those of a cloud above edges.
  """

  profiles: Profiles
  reporting: Reporting
  sampler: Sampler
  costs: Costs
  seed: int
  after: Callable[[int], float] = lambda number: 0.0
  # The time after each of the rounds that are known, and the latest of these.
  _clock: list[float] = dataclasses.field(default_factory=lambda: [0.0])
  _rounds: dict[int, TimedRound] = dataclasses.field(default_factory=dict)

  @functools.cached_property
  def _eligible_now(self) -> EligibleNow:
    return EligibleNow(self.profiles.windows, self.sampler.num_clients)

  @functools.cached_property
  def may_be_late(self) -> bool:
    """Whether any client needs longer than the deadline."""
    if self.reporting.deadline is None:
      return False
    seconds = timed_round.needed(self.profiles, self.costs, self.costs.steps)
    return bool(np.any(np.isfinite(seconds) & (
        seconds > self.reporting.deadline)))

  @property
  def may_lose(self) -> bool:
    """Whether any client that is chosen may not report."""
    profiles = self.profiles
    return (self.reporting.over_selection > 1 or self.may_be_late
            or profiles.failures is not None or profiles.windows is not None)

  @property
  def max_cohort(self) -> int:
    """The most clients that are chosen for a round."""
    chosen = self.reporting.chosen(self.sampler.max_cohort)
    return min(chosen, max(self.sampler.num_clients, self.sampler.max_cohort))

  def as_sampler(self) -> Sampler:
    """A sampler of all clients that are chosen, also of those that are lost."""
    if self.sampler.selector is not None:
      return self.sampler._replace(max_cohort=self.max_cohort)
    return Sampler(lambda number: self.round(number).cohort, self.max_cohort,
                   self.sampler.num_clients)

  def round(self, number: int) -> TimedRound:
    """A round, counted from 0."""
    if number in self._rounds:
      return self._rounds[number]
    for known in range(len(self._clock) - 1, number):
      self._hold(known)
    return self._hold(number)

  def begin(self, number: int) -> float:
    """The simulated time at which the server turns to a round, in seconds."""
    return self.end(number - 1) if number else 0.0

  def end(self, number: int) -> float:
    """The simulated time at which a round ends, in seconds."""
    if number + 1 >= len(self._clock):
      self.round(number)
    return self._clock[number + 1]

  def eligible(self, time: float) -> tuple[float, np.ndarray | None]:
    """When a round can begin from `time` on, and the clients it can choose.

    These are int [n], or None where all can be chosen.
    """
    if self.profiles.windows is None:
      return time, None
    time, is_open = self._wait(self.sampler.max_cohort, time)
    return time, np.flatnonzero(is_open)

  def hold(
      self, number: int, cohort: np.ndarray, start: float,
      has_model: bool = False,
  ) -> TimedRound:
    """A round of clients that were chosen.

    Args:
      number: the round's, from 0.
      cohort: int [S], clients.
      start: float64 seconds of simulated time.
      has_model: whether they have received the model before.
    """
    wanted = self.sampler.max_cohort
    if self.profiles.windows is None and (
        self.reporting.chosen(wanted) == wanted):
      wanted = len(cohort)
    costs = self.costs._replace(down_bits=0.0) if has_model else self.costs
    return self._ended(number, timed_round.hold(
        self.profiles, self.reporting, costs, cohort, wanted, start, self.seed,
        number))

  def recorded(
      self, number: int, held: TimedRound, down_bits: float,
      up_bits: np.ndarray,
  ) -> TimedRound:
    """A round with what its messages have cost; see `timed_round.recorded`."""
    wanted = min(self.sampler.max_cohort, len(held.cohort))
    return self._ended(number, timed_round.recorded(
        self.profiles, self.reporting, self.costs, held, wanted, down_bits,
        up_bits, self.seed, number))

  def _ended(self, number: int, held: TimedRound) -> TimedRound:
    """The round with what comes after the last report."""
    return held if held.failed else held._replace(
        seconds=held.seconds + self.after(number))

  def _hold(self, number: int) -> TimedRound:
    held = self.hold(number, *self._choose(number, self._clock[number]))
    if number + 1 == len(self._clock):
      self._clock.append(held.start + held.seconds)
    self._rounds[number] = held
    if len(self._rounds) > _KEPT:
      del self._rounds[next(iter(self._rounds))]
    return held

  def _choose(self, number: int, time: float) -> tuple[np.ndarray, float]:
    """Who is chosen, and when the round begins."""
    among, most = self.sampler.among, self.sampler.max_cohort
    time, pool = self.eligible(time)
    if pool is not None:
      chosen = min(self.reporting.chosen(most), len(pool))
      return among(number, pool, chosen), time
    if self.reporting.chosen(most) == most:
      return np.asarray(self.sampler.sample(number)), time
    return among(number, None, self.max_cohort), time

  def _wait(self, wanted: int, time: float) -> tuple[float, np.ndarray]:
    """When enough clients are eligible, and bool [N], who is so then.

    It is the first such moment from `time` on.
    """
    windows, begun = self.profiles.windows, time
    everyone = np.arange(self.sampler.num_clients)
    while np.count_nonzero(
        is_open := self._eligible_now.at(time)) < wanted:
      waits = np.sort(windows.until(everyone, time))
      following = time + waits[wanted - 1]
      # A little later at least, or rounding could stand still.
      time = float(max(following, np.nextafter(time, np.inf)))
      if time - begun > _LONGEST_WAIT:
        raise ValueError(
            f'systems: {wanted} clients, as a round wants, must be eligible at '
            'some time, which is not so within 28 days from '
            f'{begun / 3600:.1f} h on.')
    return time, is_open


def timeline(
    population: Population, reporting: Reporting, sampler: Sampler,
    costs: Costs, seed: int, counts_steps: bool = True,
    after: Callable[[int], float] = lambda number: 0.0,
) -> Timeline:
  """The timeline of a run, if there can be one.

  Args:
    population: whose devices they are.
    reporting: the server's rule.
    sampler: chooses the clients; its `max_cohort` is how many reports are
      wanted.
    costs: of a client in a round.
    seed: of the population and of failures.
    counts_steps: whether `costs.steps` are local steps that can be cut short.
    after: as in `Timeline`.

  Raises:
    ValueError: clients can't be chosen as they must, or no round can succeed.
  """
  made = Timeline(
      profiles=population.make(sampler.num_clients, seed), reporting=reporting,
      sampler=sampler, costs=costs, seed=seed, after=after)
  if sampler.among is None and sampler.selector is None and (
      reporting.over_selection > 1 or made.profiles.windows is not None):
    raise ValueError(
        'sampler must be able to choose any number of clients among those that '
        'are eligible (Sampler.among), as over_selection and available ask, '
        "which this one can't; sampler 'uniform' can.")
  _check_over_selection(reporting, sampler)
  if reporting.is_partial and not counts_steps:
    raise ValueError(
        "reporting: late='partial' needs an algorithm whose work is counted in "
        'local steps that can be cut short, such as fedavg with a batch_size.')
  _check_deadline(made)
  _check_failures(made)
  made.eligible(0.0)  # Raises where too few ever are.
  return made


def _check_over_selection(reporting: Reporting, sampler: Sampler) -> None:
  """ValueError where there are not as many clients as would be chosen."""
  wanted, count = sampler.max_cohort, sampler.num_clients
  selector, chosen = sampler.selector, reporting.chosen(wanted)
  if selector is not None and selector.candidates and (
      selector.candidates < chosen):
    raise ValueError(
        f'reporting must choose at most the {selector.candidates} candidates '
        f'of the sampler, got over_selection = {reporting.over_selection}, '
        f'which chooses {chosen}. Lower it, or give the sampler more '
        'candidates.')
  if reporting.over_selection > 1 and reporting.chosen(wanted) > count:
    most = np.floor(1000 * count / wanted) / 1000  # Rounded up is refused.
    raise ValueError(
        f'over_selection must be at most {most:g}, since a round wants '
        f'{wanted} reports and there are {count} clients, got '
        f'{reporting.over_selection}.')


def _check_failures(made: Timeline) -> None:
  """ValueError where too few clients can report, since devices always fail."""
  failures = made.profiles.failures
  if failures is None:
    return
  fails = np.any(np.stack([
      np.broadcast_to(x, made.costs.steps.shape) for x in failures]) >= 1, 0)
  least = made.reporting.least(made.sampler.max_cohort)
  able = int(np.count_nonzero(~fails & (made.costs.steps > 0)))
  if able < least:
    raise ValueError(
        f'systems: failures must let enough clients report, {least} in a '
        f'round, got probabilities below 1, and examples, for {able} clients.')


def _check_deadline(made: Timeline) -> None:
  """ValueError for a deadline before which too few clients can report."""
  reporting = made.reporting
  if reporting.deadline is None:
    return
  steps = made.costs.steps
  if reporting.is_partial:
    steps = np.minimum(steps, 1)
  seconds = timed_round.needed(made.profiles, made.costs, steps)
  least = reporting.least(made.sampler.max_cohort)
  able = int(np.count_nonzero(seconds <= reporting.deadline))
  if able < least:
    needed = np.sort(seconds)[least - 1] if least <= len(seconds) else np.inf
    raise ValueError(
        f'reporting: deadline must let enough clients report, {least} in a '
        f'round, of whom the last takes {needed:.4g} s at best, got '
        f'{reporting.deadline:g} s, within which {able} can.')

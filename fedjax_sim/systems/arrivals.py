"""The timeline of an asynchronous run: who begins when, who reports when.

At any time `concurrency` clients are at work. One that begins downloads the
newest model, the version after so many server steps; does its local steps; and
sends its message, which takes it as long as in a round (`timed_round`). When it
reports, or is lost, its place is taken by one of those that are eligible and
not at work, drawn by the sampler. The server makes a step with every K-th
report; a report's lag is the number of steps since its client began. Reports of
the same moment are taken in the order in which their clients began, and all of
them before places are filled again.

As with rounds all of it is known before anything is computed, so that a run
which goes on from a checkpoint finds the same.
"""

import dataclasses
import heapq
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fedjax_sim.data.sampling import Sampler
from fedjax_sim.systems import timed_round
from fedjax_sim.systems.profiles import Population, Profiles
from fedjax_sim.systems.report_window import Reporting
from fedjax_sim.systems.timed_round import Costs, Times

# Seconds without a report after which the server gives up.
_LONGEST_WAIT = 28 * 86400.0
# Clients that begin, for each report that is wanted, before it does.
_MOST_BEGUN = 1000
# Clients whose windows are looked at first, for each that is to begin.
_LOOKED_AT = 16
# Steps that are kept: those of two windows, and of their records.
_KEPT = 512


class Step(NamedTuple):
  """The time from a server step to the next one, and its K reports.

  Downloads and energy count where a client begins, messages where they arrive.

  Attributes:
    start: float64 seconds of simulated time.
    seconds: until the K-th report.
    cohort: int [K], who reports, in this order.
    lag: int [K], server steps since each of them began.
    started: how many clients began.
    spared: of their downloads the part that does not take place.
    lost: clients whose device failed or left its window.
    discarded: reports that were too old.
    wasted: messages that were sent and did not count, parts of them too.
    joules: of those that began; None where their power is not known.
    failed: never.
  """

  start: float
  seconds: float
  cohort: np.ndarray
  lag: np.ndarray
  started: int
  spared: float
  lost: int
  discarded: int
  wasted: float
  joules: float | None
  failed: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Arrivals:
  """Server steps in simulated time; `arrivals` makes one.

  To the rest it is what a `Timeline` is, with a server step for a round.

  Attributes:
    profiles: of all clients.
    reporting: the server's rule, with `asynchrony`.
    sampler: chooses the clients; its `max_cohort` is K.
    costs: of a client.
    seed: of failures.
    once: whether a client may report to a step only once.
  """

  profiles: Profiles
  reporting: Reporting
  sampler: Sampler
  costs: Costs
  seed: int
  once: bool
  # The time after each of the steps that are known, and the latest of these.
  _clock: list[float] = dataclasses.field(default_factory=lambda: [0.0])
  _steps: dict[int, Step] = dataclasses.field(default_factory=dict)
  _running: list[Iterator[tuple[int, Step]]] = dataclasses.field(
      default_factory=list)

  @property
  def may_lose(self) -> bool:
    """Never: those that are lost are not in a step's cohort."""
    return False

  @property
  def max_cohort(self) -> int:
    """K."""
    return self.sampler.max_cohort

  def as_sampler(self) -> Sampler:
    """A sampler of those who report."""
    return Sampler(lambda number: self.round(number).cohort, self.max_cohort,
                   self.sampler.num_clients)

  def round(self, number: int) -> Step:
    """A step, counted from 0."""
    if number not in self._steps and number + 1 < len(self._clock):
      self._running.clear()  # It was forgotten, so all of them once more.
    if not self._running:
      self._steps.clear()
      self._running.append(enumerate(_Run(self).steps()))
    while number not in self._steps:
      known, step = next(self._running[0])
      if known + 1 == len(self._clock):
        self._clock.append(step.start + step.seconds)
      self._steps[known] = step
      self._steps.pop(known - _KEPT, None)
    return self._steps[number]

  def begin(self, number: int) -> float:
    """The simulated time of the step before, in seconds."""
    return self.end(number - 1) if number else 0.0

  def end(self, number: int) -> float:
    """The simulated time of a step, in seconds."""
    if number + 1 >= len(self._clock):
      self.round(number)
    return self._clock[number + 1]


class _Training(NamedTuple):
  """A client at work; of two that end at once the first that began is first."""

  end: float
  number: int
  client: int
  version: int
  reports: bool
  sent: float


class _Run:
  """An asynchronous run as it goes on."""

  def __init__(self, known: Arrivals):
    self.known = known
    self.rule = known.reporting.asynchrony
    clients = np.arange(known.sampler.num_clients)
    self.times = timed_round.times_of(
        known.profiles, known.reporting, known.costs, clients)
    # Who has no examples has nothing to report.
    self.idle = self.times.steps > 0
    self.at_work: list[_Training] = []
    self.time, self.version = 0.0, 0
    self.begun = self.drawn = 0

  def steps(self) -> Iterator[Step]:
    """All server steps, one after the other."""
    while True:
      yield self._step()
      self.version += 1

  def _step(self) -> Step:
    start, began = self.time, self.begun
    known = self.known.profiles.training_watts is not None
    told = {'spared': 0.0, 'lost': 0, 'discarded': 0, 'wasted': 0.0,
            'joules': 0.0 if known else None}
    reports: list[_Training] = []
    while len(reports) < self.known.max_cohort:
      ended = self._next(told)
      self._check_goes_on(start, began)
      too_old = self.version - ended.version > self.rule.max_lag
      counts = ended.reports and not too_old
      self.idle[ended.client] = not (counts and self.known.once)
      if counts:
        reports.append(ended)
      else:
        told['discarded' if ended.reports else 'lost'] += 1
        told['wasted'] += ended.sent
    cohort = np.array([one.client for one in reports], np.int32)
    if self.known.once:
      self.idle[cohort] = True
    lag = self.version - np.array([one.version for one in reports], np.int32)
    return Step(start, self.time - start, cohort, lag, self.begun - began,
                **told)

  def _next(self, told: dict) -> _Training:
    """The next who ends; before that, free places are filled."""
    while True:
      following = self.at_work[0].end if self.at_work else np.inf
      if following <= self.time:  # All of one moment first.
        break
      wake = self._fill(told)
      following = self.at_work[0].end if self.at_work else np.inf
      if self.at_work and following <= wake:
        break
      self._check_wakes(wake)
      # A little later at least, or rounding could stand still.
      self.time = float(max(wake, np.nextafter(self.time, np.inf)))
    ended = heapq.heappop(self.at_work)
    self.time = ended.end
    return ended

  def _fill(self, told: dict) -> float:
    """Fills free places; when another client can begin if some stay free."""
    while free := self.rule.concurrency - len(self.at_work):
      pool = np.flatnonzero(self.idle)
      chosen = self._choose(pool, free)
      if not len(chosen):
        windows = self.known.profiles.windows
        return np.inf if windows is None or not len(pool) else (
            self.time + float(windows.until(pool, self.time).min()))
      self._begin(chosen, told)
    return np.inf

  def _choose(self, pool: np.ndarray, most: int) -> np.ndarray:
    """Up to so many of the pool who are eligible; none if nobody is."""
    windows = self.known.profiles.windows
    if windows is None:
      return self._draw(pool, most)
    # The first few of a random order often have enough, and cost less.
    some = self._draw(pool, _LOOKED_AT * most)
    some = some[windows.is_open(some, self.time)][:most]
    if len(some):
      return some
    return self._draw(pool[windows.is_open(pool, self.time)], most)

  def _draw(self, pool: np.ndarray, most: int) -> np.ndarray:
    """Up to so many of the pool, in the sampler's order."""
    if not len(pool):
      return pool
    self.drawn += 1
    return np.asarray(self.known.sampler.among(
        self.drawn - 1, pool, min(most, len(pool))))

  def _begin(self, cohort: np.ndarray, told: dict) -> None:
    """Clients int [S] begin now, with the newest model."""
    profiles = self.known.profiles
    times = Times(*(x[cohort] for x in self.times))
    numbers = self.begun + np.arange(len(cohort))
    stops = timed_round.stops_of(
        profiles, times, cohort, self.time, self.known.seed, numbers)
    whole = times.report <= stops
    busy = np.minimum(stops, times.report)
    received, sent, joules = timed_round.travelled(
        profiles, times, cohort, busy, whole)
    told['spared'] += float((1 - received).sum())
    if joules is not None:
      told['joules'] += joules
    for one in zip((self.time + busy).tolist(), numbers.tolist(),
                   cohort.tolist(), [self.version] * len(cohort),
                   whole.tolist(), sent.tolist(), strict=True):
      heapq.heappush(self.at_work, _Training(*one))
    self.idle[cohort] = False
    self.begun += len(cohort)

  def _check_goes_on(self, start: float, began: int) -> None:
    """ValueError where so many are lost that a step never comes."""
    most = _MOST_BEGUN * self.known.max_cohort + self.rule.concurrency
    if self.time - start > _LONGEST_WAIT or self.begun - began > most:
      raise ValueError(
          f'systems: {self.known.max_cohort} clients, as a step wants, must '
          f'report at some time, which is not so from {start / 3600:.1f} h on: '
          f'{self.begun - began} began within '
          f'{(self.time - start) / 3600:.1f} h.')

  def _check_wakes(self, wake: float) -> None:
    """ValueError where nobody is at work and nobody can begin."""
    if not self.at_work and wake - self.time > _LONGEST_WAIT:
      raise ValueError(
          'systems: a client must be eligible at some time, which is not so '
          f'within 28 days from {self.time / 3600:.1f} h on.')


def arrivals(
    population: Population, reporting: Reporting, sampler: Sampler,
    costs: Costs, seed: int, once: bool = False,
) -> Arrivals:
  """The timeline of an asynchronous run, if there can be one.

  Args:
    population: whose devices they are.
    reporting: the server's rule, with `asynchrony`.
    sampler: chooses the clients; its `max_cohort` is K, the reports of a
      server step.
    costs: of a client.
    seed: of the population and of failures.
    once: whether clients keep states, so that none may report twice to a step:
      who has reported begins again after it.

  Raises:
    ValueError: K or the concurrency does not fit, or reports can't come.
  """
  rule, wanted = reporting.asynchrony, sampler.max_cohort
  if rule.concurrency < wanted:
    raise ValueError(
        f'reporting: concurrency must be at least {wanted}, clients_per_round, '
        f'the reports of a server step, got {rule.concurrency}.')
  able = int(np.count_nonzero(costs.steps))
  if rule.concurrency > able:
    raise ValueError(
        f'reporting: concurrency must be at most {able}, the clients that have '
        f'any examples, got {rule.concurrency}.')
  if sampler.among is None:
    raise ValueError(
        'sampler must be able to choose among those that are not at work '
        "(Sampler.among), which this one can't; sampler 'uniform' can.")
  made = Arrivals(
      profiles=population.make(sampler.num_clients, seed), reporting=reporting,
      sampler=sampler, costs=costs, seed=seed, once=once)
  made.round(0)  # Raises where nobody reports.
  return made

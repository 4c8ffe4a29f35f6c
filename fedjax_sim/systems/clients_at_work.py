"""An asynchronous run, event after event: who begins, ends, and reports.

The events are the ends of trainings, in a heap. `arrivals` says what the rules
are.
"""

import heapq
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fedjax_sim.data.sampling import Sampler
from fedjax_sim.systems import timed_round
from fedjax_sim.systems.profiles import Profiles
from fedjax_sim.systems.report_window import Reporting
from fedjax_sim.systems.timed_round import Costs, Times

# Seconds without a step after which the server gives up.
_LONGEST_WAIT = 28 * 86400.0
# Clients that begin, for each report that is wanted, before it does.
_MOST_BEGUN = 1000
# Clients whose windows are looked at first, for each that is to begin.
_LOOKED_AT = 16


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


class Rules(NamedTuple):
  """What a run goes by.

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


class _Training(NamedTuple):
  """A client at work; of two that end at once the first that began is first."""

  end: float
  number: int
  client: int
  version: int
  reports: bool
  sent: float


class Run:
  """An asynchronous run as it goes on."""

  def __init__(self, rules: Rules):
    self.rules = rules
    self.rule = rules.reporting.asynchrony
    clients = np.arange(rules.sampler.num_clients)
    self.times = timed_round.times_of(
        rules.profiles, rules.reporting, rules.costs, clients)
    self.report = self.times.report
    profiles = rules.profiles
    # Else all that is to be known of a client is when it reports.
    self.eventful = any(x is not None for x in (
        profiles.failures, profiles.windows, profiles.training_watts))
    # Clients without examples have nothing to report.
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
    measured = self.rules.profiles.training_watts is not None
    told = {'spared': 0.0, 'lost': 0, 'discarded': 0, 'wasted': 0.0,
            'joules': 0.0 if measured else None}
    reports: list[_Training] = []
    while len(reports) < self.rules.sampler.max_cohort:
      ended = self._next(told)
      self._check_goes_on(start, began)
      too_old = self.version - ended.version > self.rule.max_lag
      counts = ended.reports and not too_old
      self.idle[ended.client] = not (counts and self.rules.once)
      if counts:
        reports.append(ended)
      else:
        told['discarded' if ended.reports else 'lost'] += 1
        told['wasted'] += ended.sent
    cohort = np.array([one.client for one in reports], np.int32)
    if self.rules.once:
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
        windows = self.rules.profiles.windows
        return np.inf if windows is None or not len(pool) else (
            self.time + float(windows.until(pool, self.time).min()))
      self._begin(chosen, told)
    return np.inf

  def _choose(self, pool: np.ndarray, most: int) -> np.ndarray:
    """Up to so many of the pool that are eligible; none if nobody is."""
    windows = self.rules.profiles.windows
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
    return np.asarray(self.rules.sampler.among(
        self.drawn - 1, pool, min(most, len(pool))))

  def _begin(self, cohort: np.ndarray, told: dict) -> None:
    """Clients int [S] begin now, with the newest model."""
    numbers = self.begun + np.arange(len(cohort))
    busy, whole, sent = self._fates(cohort, numbers, told)
    for one in zip((self.time + busy).tolist(), numbers.tolist(),
                   cohort.tolist(), [self.version] * len(cohort),
                   whole.tolist(), sent.tolist(), strict=True):
      heapq.heappush(self.at_work, _Training(*one))
    self.idle[cohort] = False
    self.begun += len(cohort)

  def _fates(self, cohort: np.ndarray, numbers: np.ndarray, told: dict):
    """What becomes of clients int [S] that begin now.

    Returns:
      [S] each: seconds that they are at work, whether they report, and the
      share of their messages that they send.
    """
    profiles = self.rules.profiles
    if not self.eventful:
      ones = np.ones(len(cohort))
      return self.report[cohort], ones > 0, ones
    times = Times(*(x[cohort] for x in self.times))
    stops = timed_round.stops_of(
        profiles, times, cohort, self.time, self.rules.seed, numbers)
    whole = times.report <= stops
    busy = np.minimum(stops, times.report)
    received, sent, joules = timed_round.travelled(
        profiles, times, cohort, busy, whole)
    told['spared'] += float((1 - received).sum())
    if joules is not None:
      told['joules'] += joules
    return busy, whole, sent

  def _check_goes_on(self, start: float, began: int) -> None:
    """ValueError where so many are lost that a step never comes."""
    wanted = self.rules.sampler.max_cohort
    most = _MOST_BEGUN * wanted + self.rule.concurrency
    if self.time - start > _LONGEST_WAIT or self.begun - began > most:
      raise ValueError(
          f'systems: {wanted} clients, as a step wants, must report at some '
          f'time, which is not so from {start / 3600:.1f} h on: '
          f'{self.begun - began} began within '
          f'{(self.time - start) / 3600:.1f} h.')

  def _check_wakes(self, wake: float) -> None:
    """ValueError where nobody is at work and nobody can begin."""
    if not self.at_work and wake - self.time > _LONGEST_WAIT:
      raise ValueError(
          'systems: a client must be eligible at some time, which is not so '
          f'within 28 days from {self.time / 3600:.1f} h on.')

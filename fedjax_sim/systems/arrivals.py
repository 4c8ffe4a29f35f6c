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
from collections.abc import Iterator

import numpy as np

from fedjax_sim.data.sampling import Sampler
from fedjax_sim.systems.clients_at_work import Rules, Run, Step
from fedjax_sim.systems.profiles import Population, Profiles
from fedjax_sim.systems.report_window import Reporting
from fedjax_sim.systems.timed_round import Costs

# Steps that are kept: those of two windows, and of their records.
_KEPT = 512


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Arrivals:
  """Server steps in simulated time; `arrivals` makes one.

  To the rest it is what a `Timeline` is, with a server step for a round.

  Attributes:
    rules: what the run goes by.
  """

  rules: Rules
  # The time after each of the steps that are known, and the latest of these.
  _clock: list[float] = dataclasses.field(default_factory=lambda: [0.0])
  _steps: dict[int, Step] = dataclasses.field(default_factory=dict)
  _running: list[Iterator[tuple[int, Step]]] = dataclasses.field(
      default_factory=list)

  @property
  def profiles(self) -> Profiles:
    """Of all clients."""
    return self.rules.profiles

  @property
  def reporting(self) -> Reporting:
    """The server's rule."""
    return self.rules.reporting

  @property
  def sampler(self) -> Sampler:
    """Chooses the clients."""
    return self.rules.sampler

  @property
  def costs(self) -> Costs:
    """Of a client."""
    return self.rules.costs

  @property
  def may_lose(self) -> bool:
    """Never: those that are lost are not in a step's cohort."""
    return False

  @property
  def max_cohort(self) -> int:
    """K."""
    return self.rules.sampler.max_cohort

  def as_sampler(self) -> Sampler:
    """A sampler of those who report."""
    return Sampler(lambda number: self.round(number).cohort, self.max_cohort,
                   self.rules.sampler.num_clients)

  def round(self, number: int) -> Step:
    """A step, counted from 0."""
    if number not in self._steps and number + 1 < len(self._clock):
      self._running.clear()  # It was forgotten, so all of them once more.
    if not self._running:
      self._steps.clear()
      self._running.append(enumerate(Run(self.rules).steps()))
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
      a client that has reported may begin again only after it.

  Raises:
    ValueError: K or the concurrency does not fit, or reports can't come.
  """
  wanted = sampler.max_cohort
  rule = reporting.asynchrony.settled(wanted)
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
  made = Arrivals(rules=Rules(
      population.make(sampler.num_clients, seed),
      reporting._replace(asynchrony=rule), sampler, costs, seed, once))
  made.round(0)  # Raises where nobody reports.
  return made

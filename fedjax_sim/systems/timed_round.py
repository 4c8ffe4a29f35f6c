"""One round in time: what becomes of each client that was chosen.

A client downloads the model, does its local steps one after the other, and
sends its message:

    report = bits_down / down_bps + steps step_seconds + bits_up / up_bps

after the round's start. It is lost where its device fails or leaves its window
of eligibility before. The server takes reports in the order in which they
come, until it has as many as it wants, or nobody is left who can report, or the
deadline has passed. Whoever is still at work is told to stop then.
"""

from typing import NamedTuple

import numpy as np

from fedjax_sim.systems import draws
from fedjax_sim.systems.profiles import Profiles
from fedjax_sim.systems.report_window import Reporting


class Costs(NamedTuple):
  """What a round costs a client, known before it begins.

  Attributes:
    steps: int [N], local steps.
    down_bits: what each client receives.
    up_bits: what it sends.
  """

  steps: np.ndarray
  down_bits: float
  up_bits: float


class TimedRound(NamedTuple):
  """A round of S clients that were chosen.

  Attributes:
    start: float64 seconds of simulated time.
    seconds: how long it takes.
    cohort: int [S], the clients' numbers.
    arrives: bool [S], whose reports count; nobody's if the round fails.
    work: int [S], local steps that they do.
    failed: whether there were too few reports.
    reports: how many came in time.
    received: float64 [S], the share of the download that each has received.
    sent: float64 [S], the share of its message that each has sent.
    joules: float, of all clients; None where their power is not known.
  """

  start: float
  seconds: float
  cohort: np.ndarray
  arrives: np.ndarray
  work: np.ndarray
  failed: bool
  reports: int
  received: np.ndarray
  sent: np.ndarray
  joules: float | None

  @property
  def lag(self) -> None:
    """All of a round begin with the same model."""
    return None

  @property
  def started(self) -> int:
    """How many began."""
    return len(self.cohort)

  @property
  def spared(self) -> float:
    """Downloads that did not take place."""
    return float((1 - self.received).sum())

  @property
  def wasted(self) -> float:
    """Messages that were sent and did not count."""
    return float(self.sent[~self.arrives].sum())


class Times(NamedTuple):
  """How long each part takes: float64 [S] seconds; and the steps, int [S]."""

  down: np.ndarray
  training: np.ndarray
  up: np.ndarray
  steps: np.ndarray

  @property
  def report(self) -> np.ndarray:
    return self.down + self.training + self.up


def hold(
    profiles: Profiles, reporting: Reporting, costs: Costs,
    cohort: np.ndarray, wanted: int, start: float, seed: int, number: int,
) -> TimedRound:
  """A round, from its cohort.

  Args:
    profiles: of all clients.
    reporting: the server's rule.
    costs: of all clients.
    cohort: int [S], who was chosen; earlier ones win where reports come at the
      same moment.
    wanted: reports that the server takes at most.
    start: float64 seconds of simulated time.
    seed: of the failures.
    number: the round's, from 0.
  """
  times = times_of(profiles, reporting, costs, cohort)
  stops = stops_of(profiles, times, cohort, start, seed, number)
  report = times.report
  # Who has no examples has nothing to report.
  reports = (report <= stops) & (times.steps > 0)
  deadline = np.inf if reporting.deadline is None else reporting.deadline
  in_time = np.where(reports & (report <= deadline), report, np.inf)
  first = np.argsort(in_time, kind='stable')[:wanted]
  first = first[np.isfinite(in_time[first])]
  if len(first) == wanted:
    end = float(in_time[first[-1]])
  else:  # Until nobody is left who may still report.
    left = np.where(times.steps > 0, np.minimum(stops, report), 0.0)
    end = float(min(deadline, left.max(initial=0.0)))
  arrives = np.zeros(len(cohort), bool)
  failed = len(first) < reporting.least(wanted)
  if not failed:
    arrives[first] = True
  busy = np.minimum(end, np.minimum(stops, report))
  received, sent, used = travelled(
      profiles, times, cohort, busy, reports & (busy >= report))
  return TimedRound(
      start, end, cohort, arrives, times.steps, failed, len(first), received,
      sent, used)


def needed(profiles: Profiles, costs: Costs, steps: np.ndarray) -> np.ndarray:
  """float64 [N], seconds to report after these steps; infinity after none."""
  seconds = (costs.down_bits / profiles.down_bps
             + steps * profiles.step_seconds
             + costs.up_bits / profiles.up_bps)
  return np.where(steps > 0, seconds, np.inf)


def times_of(
    profiles: Profiles, reporting: Reporting, costs: Costs, cohort: np.ndarray
) -> Times:
  """How long each part takes, if nothing comes between."""
  down = costs.down_bits / profiles.down_bps[cohort]
  up = costs.up_bits / profiles.up_bps[cohort]
  step = profiles.step_seconds[cohort]
  steps = costs.steps[cohort]
  if reporting.is_partial:
    room = reporting.deadline - down - up
    fitting = np.floor(np.clip(room / step, 0, steps)).astype(steps.dtype)
    fitting -= down + fitting * step + up > reporting.deadline  # Rounding.
    steps = np.clip(fitting, np.minimum(steps, 1), steps)
  return Times(down, steps * step, up, steps)


def stops_of(
    profiles: Profiles, times: Times, cohort: np.ndarray, start: float,
    seed: int, number: int,
) -> np.ndarray:
  """float64 [S], seconds after which clients are lost; infinity for never."""
  stops = np.full(len(cohort), np.inf)
  if profiles.windows is not None:
    stops = profiles.windows.left(
        cohort, start, times.report.max(initial=0.0))
  if profiles.failures is None:
    return stops
  at = {'before': lambda share: times.down,
        'training': lambda share: times.down + share * times.training,
        'after': lambda share: times.down + times.training + share * times.up}
  for name, probability in profiles.failures._asdict().items():
    if np.ndim(probability):
      probability = probability[cohort]
    fails = draws.uniforms(seed, f'fails {name}', number, cohort) < probability
    share = draws.uniforms(seed, f'moment {name}', number, cohort)
    stops = np.where(fails, np.minimum(stops, at[name](share)), stops)
  return stops


def travelled(
    profiles: Profiles, times: Times, cohort: np.ndarray, busy: np.ndarray,
    whole: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float | None]:
  """What clients have received and sent, and used.

  Args:
    profiles: of all clients.
    times: of these.
    cohort: int [S], who they are.
    busy: float64 [S], seconds after which each stopped.
    whole: bool [S], whether it had sent all by then.

  Returns:
    (float64 [S], float64 [S], joules), shares of what there is to be received
    and sent, and the energy of all of them, None if it is not known.
  """
  received = np.where(whole, 1.0, np.clip(busy / times.down, 0, 1))
  begun = times.down + times.training
  sent = np.where(whole, 1.0, np.clip((busy - begun) / times.up, 0, 1))
  sent = np.where(times.steps > 0, sent, 0.0)
  return received, sent, _joules(
      profiles, times, cohort, busy, received, sent)


def _joules(profiles, times, cohort, busy, received, sent) -> float | None:
  """What all clients have used up to the moment at which they stopped."""
  if profiles.training_watts is None:
    return None
  computing = np.clip(busy - times.down, 0, times.training)
  radio = received * times.down + sent * times.up
  return float(np.sum(profiles.training_watts[cohort] * computing
                      + profiles.radio_watts[cohort] * radio))

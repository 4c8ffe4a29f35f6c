"""One round in time: what becomes of each client that was chosen.

A client downloads the model, does its local steps one after the other, and
sends its message:

    report = bits_down / down_bps + gradients step_seconds + bits_up / up_bps

after the round's start, with one gradient for a step of FedAvg. It is lost
where its device fails or leaves its window of eligibility before. The server
takes reports in the order in which they come, until it has as many as it wants,
or nobody is left who can report, or the deadline has passed. Clients that are
still at work are told to stop then.
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
    gradients: what each step takes, as `LocalCost` has it.
    beside: float [N], what clients compute beside the steps, likewise; or a
      number.
  """

  steps: np.ndarray
  down_bits: float
  up_bits: float
  gradients: float = 1.0
  beside: np.ndarray | float = 0.0

  def training(
      self, profiles: Profiles, clients: np.ndarray | slice, steps: np.ndarray
  ) -> np.ndarray:
    """float64 [S], seconds that clients [S] compute for so many steps."""
    beside = np.broadcast_to(self.beside, self.steps.shape)[clients]
    gradients = np.where(steps > 0, beside + self.gradients * steps, 0)
    return gradients * profiles.step_seconds[clients]


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
    lost: clients whose device failed or left its window before the end.
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
  lost: int
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
    cohort: int [S], the clients that were chosen; earlier ones win where
      reports come at the same moment.
    wanted: reports that the server takes at most.
    start: float64 seconds of simulated time.
    seed: of the failures.
    number: the round's, from 0.
  """
  times = times_of(profiles, reporting, costs, cohort)
  stops = stops_of(profiles, times, cohort, start, seed, number)
  report = times.report
  # Clients without examples have nothing to report.
  reports = (report <= stops) & (times.steps > 0)
  in_time = np.where(
      reports & (report <= reporting.last_moment), report, np.inf)
  first = np.argsort(in_time, kind='stable')[:wanted]
  first = first[np.isfinite(in_time[first])]
  if len(first) == wanted:
    end = float(in_time[first[-1]])
  else:
    end = _end_of_all(reporting, times, np.minimum(stops, report))
  arrives = np.zeros(len(cohort), bool)
  failed = len(first) < reporting.least(wanted)
  if not failed:
    arrives[first] = True
  busy = np.minimum(end, np.minimum(stops, report))
  received, sent, used = travelled(
      profiles, times, cohort, busy, reports & (busy >= report))
  lost = (stops < report) & (stops <= end) & (times.steps > 0)
  return TimedRound(
      start, end, cohort, arrives, times.steps, failed, len(first),
      int(np.count_nonzero(lost)), received, sent, used)


def recorded(
    profiles: Profiles, reporting: Reporting, costs: Costs, held: TimedRound,
    wanted: int, down_bits: float, up_bits: np.ndarray, seed: int, number: int,
) -> TimedRound:
  """A round once it is known what its messages have cost.

  Who reports, and with how many steps, stays as it was decided.

  Args:
    profiles: of all clients.
    reporting: the server's rule.
    costs: what was known of all clients.
    held: the round as it was decided.
    wanted: as in `hold`.
    down_bits: what each client was sent in this round.
    up_bits: float64 [S], what each has sent, or would have.
    seed: as in `hold`.
    number: the round's, from 0.
  """
  cohort, heard = held.cohort, held.arrives
  times = Times(
      down_bits / profiles.down_bps[cohort],
      costs.training(profiles, cohort, held.work),
      up_bits / profiles.up_bps[cohort], held.work)
  stops = stops_of(profiles, times, cohort, held.start, seed, number)
  report = times.report
  stops = np.where(heard, np.inf, stops)
  if heard.sum() == wanted:
    end = float(report[heard].max())
  else:
    end = _end_of_all(reporting, times, np.minimum(stops, report))
  end = min(end, reporting.last_moment)
  busy = np.minimum(end, np.minimum(stops, report))
  received, sent, used = travelled(
      profiles, times, cohort, busy,
      (report <= stops) & (times.steps > 0) & (busy >= report))
  return held._replace(
      seconds=end, received=received, sent=sent, joules=used)


def _end_of_all(reporting: Reporting, times: Times, ends) -> float:
  """When nobody is left who may still report, or the deadline has passed."""
  left = np.where(times.steps > 0, ends, 0.0)
  return float(min(reporting.last_moment, left.max(initial=0.0)))


def needed(profiles: Profiles, costs: Costs, steps: np.ndarray) -> np.ndarray:
  """float64 [N], seconds to report after these steps; infinity after none."""
  seconds = (costs.down_bits / profiles.down_bps
             + costs.training(profiles, slice(None), steps)
             + costs.up_bits / profiles.up_bps)
  return np.where(steps > 0, seconds, np.inf)


def times_of(
    profiles: Profiles, reporting: Reporting, costs: Costs, cohort: np.ndarray
) -> Times:
  """How long each part takes, if nothing comes between."""
  down = costs.down_bits / profiles.down_bps[cohort]
  up = costs.up_bits / profiles.up_bps[cohort]
  steps = costs.steps[cohort]
  training = lambda steps: costs.training(profiles, cohort, steps)
  if reporting.is_partial:
    step = costs.gradients * profiles.step_seconds[cohort]
    beside = training(np.minimum(steps, 1)) - step * np.minimum(steps, 1)
    room = reporting.deadline - down - up - beside
    fitting = np.floor(np.clip(room / step, 0, steps)).astype(steps.dtype)
    fitting -= down + training(fitting) + up > reporting.deadline  # Rounding.
    steps = np.clip(fitting, np.minimum(steps, 1), steps)
  return Times(down, training(steps), up, steps)


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
  moments = {
      'before': (times.down, 0.0), 'training': (times.down, times.training),
      'after': (times.down + times.training, times.up)}
  for name, probability in profiles.failures._asdict().items():
    if np.ndim(probability):
      probability = probability[cohort]
    if not np.any(probability):
      continue
    fails = draws.uniforms(seed, f'fails {name}', number, cohort) < probability
    share = draws.uniforms(seed, f'moment {name}', number, cohort)
    begin, length = moments[name]
    stops = np.where(fails, np.minimum(stops, begin + share * length), stops)
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
  begun = times.down + times.training
  received, sent = (np.where(whole, 1.0, np.clip(np.divide(
      seconds, needed, out=np.ones_like(needed), where=needed > 0), 0, 1))
                    for seconds, needed in (
                        (busy, times.down), (busy - begun, times.up)))
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

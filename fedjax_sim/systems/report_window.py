"""When the server makes a step, and what it takes to count.

In rounds: Bonawitz et al., "Towards federated learning at scale: system design"
(2019), section 2.2 and figure 2: the server chooses more clients than it needs,
takes the first reports until it has enough or a deadline has passed, and gives
the round up if there are too few.

Asynchronously: Nguyen et al., "Federated Learning with Buffered Asynchronous
Aggregation" (2022), section 3: a number of clients is at work at any time, and
the server makes a step whenever it has enough reports.
"""

import math
from typing import NamedTuple

import numpy as np

from fedjax_sim.core import checks


class Asynchrony(NamedTuple):
  """What an asynchronous server goes by.

  Attributes:
    concurrency: clients that are at work at any time.
    max_lag: the most server steps that a report may be behind; None follows
      from the mean lag, see `settled`.
  """

  concurrency: int
  max_lag: int | None = None

  def mean_lag(self, reports: int) -> float:
    """The mean lag where no report is lost and a step takes so many."""
    return (self.concurrency - 1) / reports

  def settled(self, reports: int) -> 'Asynchrony':
    """With a `max_lag`: if none is given, 4 times the mean, at least 20."""
    if self.max_lag is not None:
      return self
    return self._replace(
        max_lag=max(20, math.ceil(4 * self.mean_lag(reports))))


class Reporting(NamedTuple):
  """The server's rule; `window` and `asynchronous` make one.

  Attributes:
    deadline: seconds after a round's start; None for no end.
    over_selection: clients chosen for each that is wanted, at least 1.
    min_reports: of the clients that are wanted, the share that must report.
    late: 'drop' or 'partial'.
    asynchrony: None for rounds, which the fields above are about.
  """

  deadline: float | None = None
  over_selection: float = 1.0
  min_reports: float = 0.0
  late: str = 'drop'
  asynchrony: Asynchrony | None = None

  @property
  def last_moment(self) -> float:
    """Seconds after a round's start at which it has ended in any case."""
    return np.inf if self.deadline is None else self.deadline

  @property
  def is_partial(self) -> bool:
    """Whether clients do a part of their work to be in time."""
    return self.late == 'partial'

  def chosen(self, wanted: int) -> int:
    """How many clients are chosen where so many reports are wanted."""
    # Rounded first: 1.1 * 10 is more than 11 in floating point.
    return int(np.ceil(round(self.over_selection * wanted, 6)))

  def least(self, wanted: int) -> int:
    """How many reports a round needs."""
    return max(1, int(np.ceil(round(self.min_reports * wanted, 6))))


def window(
    deadline: float | None = None, *, over_selection: float = 1.0,
    min_reports: float = 0.0, late: str = 'drop',
) -> Reporting:
  """The rule of rounds: whom to choose, and how long to wait for them.

  Args:
    deadline: seconds after a round's start at which it ends; None waits for
      all clients that can still report.
    over_selection: how many times as many clients are chosen as are wanted; the
      first reports count. Bonawitz et al. take 1.3.
    min_reports: the share of the clients that are wanted that must report, in
      [0, 1], or the round fails: nothing changes but the time. At least one
      must in any case.
    late: what becomes of clients that would be late: 'drop' loses their work;
      with 'partial' each does as many local steps as let it report by the
      deadline (the variable work of FedProx, Li et al., 2020).

  Raises:
    ValueError: an argument is out of range.
  """
  if deadline is not None:
    checks.positive('deadline', deadline)
  checks.positive('over_selection', over_selection)
  if over_selection < 1:
    raise ValueError('over_selection must be at least 1, since fewer clients '
                     f'than are wanted would be chosen, got {over_selection}.')
  checks.fraction('min_reports', min_reports)
  checks.one_of('late', late, ('drop', 'partial'))
  if late == 'partial' and deadline is None:
    raise ValueError("late='partial' needs a deadline, without which nobody is "
                     'late.')
  return Reporting(deadline, over_selection, min_reports, late)


def asynchronous(
    concurrency: int, *, max_lag: int | None = None) -> Reporting:
  """No rounds: a step of the server whenever enough clients have reported.

  That is `clients_per_round` reports, which fill a buffer. A client that
  reports, or is lost, makes place for another one, which begins from the newest
  model.

  Args:
    concurrency: clients that are at work at any time, at least
      `clients_per_round`.
    max_lag: reports of clients whose model is more server steps old than this
      are discarded. As many models, and one, are kept on each device. The
      mean lag is about (`concurrency` - 1) / `clients_per_round`; None is 4
      times that, and at least 20.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.positive_int('concurrency', concurrency)
  if max_lag is not None:
    max_lag = int(checks.at_least('max_lag', max_lag, 0))
  return Reporting(asynchrony=Asynchrony(int(concurrency), max_lag))

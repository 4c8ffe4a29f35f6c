"""When clients are eligible: the windows of time in which they take part.

A client is eligible while its device is charging, on unmetered Wi-Fi and idle
(Bonawitz et al., "Towards federated learning at scale: system design", 2019,
section 2). Windows are intervals that repeat, read from a trace or drawn
(`from_intervals`), or probabilities of hours (`from_probabilities`).

Simulated time is in seconds from 0, midnight of a Monday in time zone 0.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fedjax_sim.systems import draws

HOUR, DAY = 3600.0, 86400.0
# Hours that are looked ahead; probabilities that leave somebody out, or in, for
# longer are as good as 0 or 1.
_MOST_SLOTS = 24 * 28


class Windows(NamedTuple):
  """When each of N clients is eligible.

  All are functions `(clients int [n], seconds) -> [n]`, with float64
  seconds of simulated time: one number, or [n].

  Attributes:
    is_open: bool, whether they are eligible then.
    left: float64, the seconds that they still are; 0 for clients that are not.
      A third argument says how far to look ahead: longer times may be reported
      as infinite.
    until: float64, the seconds until they are; 0 for clients that are, and
      infinity for those that never are.
    steady: float64, seconds for which that does not change, at least; cheap.
  """

  is_open: Callable[..., np.ndarray]
  left: Callable[..., np.ndarray]
  until: Callable[..., np.ndarray]
  steady: Callable[..., np.ndarray]


class Availability(NamedTuple):
  """A model of eligibility.

  Attributes:
    make: `(num_clients, seed, purpose) -> Windows`; the purpose tells models
      apart that are drawn from one seed.
  """

  make: Callable[[int, int, str], Windows]


def from_intervals(
    clients: np.ndarray, starts: np.ndarray, ends: np.ndarray,
    period: np.ndarray | float, num_clients: int,
) -> Windows:
  """Windows that repeat with a period.

  Args:
    clients: int [I], whose interval it is; in any order.
    starts: float64 [I], seconds in [0, period).
    ends: float64 [I], after the start and at most a period later; an interval
      that passes the period's end goes on at its beginning. Intervals that
      overlap count as one.
    period: float64 seconds, one for all or [N].
    num_clients: N. A client without an interval is never eligible.
  """
  periods = np.broadcast_to(np.asarray(period, np.float64), num_clients)
  owners, starts, ends = _merged(clients, starts, ends, periods)
  # Sorted, since a client's places lie between its number and the next.
  places = owners + starts / periods[owners]
  first = np.searchsorted(owners, np.arange(num_clients + 1))
  counts = np.diff(first)
  last = np.maximum(first[1:] - 1, 0)
  # What ends with the period goes on where it begins.
  on = np.flatnonzero(
      (counts > 0) & (_at(ends, last) >= periods)
      & (_at(starts, first[:-1]) <= 0))
  ends[last[on]] = np.where(
      counts[on] == 1, np.inf, periods[on] + ends[first[on]])

  def find(clients, seconds):
    """Time in the period, and the last interval that has begun in it, or -1."""
    time = np.mod(seconds, periods[clients])
    i = np.searchsorted(
        places, clients + time / periods[clients], side='right') - 1
    return time, np.where(i >= first[clients], i, -1)

  def left(clients, seconds, most=np.inf):
    del most
    time, i = find(clients, seconds)
    known = (i >= 0) & (counts[clients] > 0)
    return np.where(known, np.maximum(_at(ends, i) - time, 0), 0.0)

  def until(clients, seconds):
    time, i = find(clients, seconds)
    following = np.where(i >= 0, i + 1, first[clients])
    here = following < first[clients + 1]
    start = np.where(
        here, _at(starts, following),
        periods[clients] + _at(starts, first[clients]))
    waits = np.where(counts[clients] > 0, start - time, np.inf)
    return np.where(left(clients, seconds) > 0, 0.0, waits)

  def steady(clients, seconds):
    more = left(clients, seconds)
    return np.where(more > 0, more, until(clients, seconds))

  return Windows(lambda *args: left(*args) > 0, left, until, steady)


def _at(values: np.ndarray, places: np.ndarray) -> np.ndarray:
  """Of places that there are not, anything."""
  if not len(values):
    return np.zeros(places.shape)
  return values[np.clip(places, 0, len(values) - 1)]


def _merged(clients, starts, ends, periods):
  """Disjoint intervals within the period, by client and start."""
  clients = np.asarray(clients, np.int64)
  starts, ends = (np.asarray(x, np.float64) for x in (starts, ends))
  period = periods[clients]
  over = ends > period
  clients = np.concatenate([clients, clients[over]])
  starts = np.concatenate([starts, np.zeros(over.sum())])
  ends = np.concatenate([np.minimum(ends, period), (ends - period)[over]])
  order = np.lexsort((starts, clients))
  clients, starts, ends = clients[order], starts[order], ends[order]
  if not len(clients):
    return clients, starts, ends
  # The latest end so far; a client's ends lie below the next one's number + 1.
  scaled = clients + ends / periods[clients]
  latest = np.maximum.accumulate(scaled)
  begins = np.r_[True, (clients[1:] != clients[:-1]) | (
      clients[1:] + starts[1:] / periods[clients[1:]] > latest[:-1])]
  groups = np.flatnonzero(begins)
  return clients[groups], starts[groups], np.maximum.reduceat(ends, groups)


def from_probabilities(
    probability: Callable[[np.ndarray, np.ndarray], np.ndarray], seed: int,
    purpose: str, slot_seconds: float = HOUR,
) -> Windows:
  """Windows that are drawn anew for each client and slot of time.

  Args:
    probability: `(clients int [n], seconds float64 [n]) -> float64 [n]`, of
      being eligible in the slot that begins then.
    seed: of the draws.
    purpose: likewise.
    slot_seconds: the length of a slot.
  """

  def is_on(clients, slots):
    drawn = draws.uniforms(seed, purpose, slots, clients)
    return drawn < probability(clients, slots * slot_seconds)

  def slots_of(seconds):
    return np.floor_divide(seconds, slot_seconds).astype(np.int64)

  def to_change(clients, seconds, state, most=np.inf):
    """Seconds for which they are in this state; 0 for clients that are not."""
    slots = np.broadcast_to(slots_of(seconds), len(clients)).copy()
    going = np.arange(len(clients))
    for _ in range(int(min(_MOST_SLOTS, most // slot_seconds + 2))):
      going = going[is_on(clients[going], slots[going]) == state]
      if not len(going):
        break
      slots[going] += 1
    waits = np.maximum(slots * slot_seconds - seconds, 0)
    waits[going] = np.inf
    return waits

  return Windows(
      lambda clients, seconds: is_on(clients, slots_of(seconds)),
      lambda clients, seconds, most=np.inf: to_change(
          clients, seconds, True, most),
      lambda clients, seconds: to_change(clients, seconds, False),
      lambda clients, seconds: np.broadcast_to(
          (slots_of(seconds) + 1) * slot_seconds - seconds, len(clients)))


def both(one: Windows, other: Windows) -> Windows:
  """Eligible where both say so."""

  def until(clients, seconds):
    waits = np.zeros(len(clients))
    going = np.arange(len(clients))
    for _ in range(_MOST_SLOTS):
      now = (seconds + waits)[going]
      more = np.maximum(one.until(clients[going], now),
                        other.until(clients[going], now))
      waits[going] += more
      going = going[(more > 0) & np.isfinite(more)]
      if not len(going):
        return waits
    waits[going] = np.inf
    return waits

  def is_open(clients, seconds):
    found = one.is_open(clients, seconds)
    if np.ndim(seconds):
      seconds = seconds[found]
    found[found] = other.is_open(clients[found], seconds)
    return found

  def left(*args):
    return np.minimum(one.left(*args), other.left(*args))

  def steady(*args):
    return np.minimum(one.steady(*args), other.steady(*args))

  return Windows(is_open, left, until, steady)

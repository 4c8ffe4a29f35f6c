"""Models of eligibility: at night, in some hours, by time zone, all at once."""

import functools
from collections.abc import Sequence

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.systems import draws
from fedjax_sim.systems.availability import (
    DAY,
    HOUR,
    Availability,
    Windows,
    both,
    from_intervals,
    from_probabilities,
)


def nights(
    start_hour: float = 23.0, hours: float = 7.0, *, spread: float = 1.0,
    zones: Sequence[float] = (0.0,),
) -> Availability:
  """Once a day, such as while a phone is charged.

  Each client has its own hours, the same every day: it begins at a normal hour
  around `start_hour` of its time zone, for a normal length around `hours`.

  Args:
    start_hour: the mean, in [0, 24), local time.
    hours: the mean length, in (0, 24].
    spread: standard deviation of both, in hours. Lengths are kept within half
      an hour and a day.
    zones: hours that local time is ahead of simulated time; each client lives
      in one of them, drawn uniformly.

  Raises:
    ValueError: an argument is out of range.
  """
  _hour('start_hour', start_hour)
  checks.positive('hours', hours)
  if hours > 24:
    raise ValueError(f'hours must be at most 24, got {hours}.')
  checks.non_negative('spread', spread)
  _check_zones(zones)

  def make(num_clients: int, seed: int, purpose: str) -> Windows:
    rng = draws.generator(seed, f'{purpose} nights')
    normal = rng.standard_normal((num_clients, 2)) * spread
    local = start_hour + normal[:, 0] - _zones(num_clients, seed, zones)
    starts = np.mod(local, 24) * HOUR
    lengths = np.clip(hours + normal[:, 1], 0.5, 24) * HOUR
    return from_intervals(
        np.arange(num_clients), starts, starts + lengths, DAY, num_clients)

  return Availability(make)


def day_and_night(
    day: float = 0.1, night: float = 0.6, *, night_start: float = 22.0,
    night_end: float = 6.0, zones: Sequence[float] = (0.0,),
) -> Availability:
  """In each hour with a probability, which is another one at night.

  Args:
    day: the probability in an hour of the day, in [0, 1].
    night: in one of the night.
    night_start: the hour at which the night begins, in [0, 24), local time.
    night_end: at which it ends; before `night_start` it is that of the next
      day.
    zones: as in `nights`.

  Raises:
    ValueError: an argument is out of range.
  """
  for name, value in (('day', day), ('night', night)):
    checks.fraction(name, value)
  for name, value in (('night_start', night_start), ('night_end', night_end)):
    _hour(name, value)
  _check_zones(zones)
  length = (night_end - night_start) % 24

  def make(num_clients: int, seed: int, purpose: str) -> Windows:
    ahead = _zones(num_clients, seed, zones)

    def probability(clients, seconds):
      local = seconds / HOUR + ahead[clients]
      return np.where((local - night_start) % 24 < length, night, day)

    return from_probabilities(probability, seed, f'{purpose} hours')

  return Availability(make)


def sporadic(probability: float = 0.5, *, hours: float = 1.0) -> Availability:
  """Drawn anew every so many hours, whatever the time of day.

  Args:
    probability: of being eligible, in (0, 1].
    hours: how long a draw lasts.

  Raises:
    ValueError: an argument is out of range.
  """
  if checks.fraction('probability', probability) == 0:
    raise ValueError('probability must be above 0, or nobody is ever eligible, '
                     'got 0.')
  checks.positive('hours', hours)

  def make(num_clients: int, seed: int, purpose: str) -> Windows:
    del num_clients
    return from_probabilities(
        lambda clients, seconds: np.full(len(clients), probability),
        seed, f'{purpose} sporadic', hours * HOUR)

  return Availability(make)


def all_of(*parts: Availability) -> Availability:
  """Eligible where all parts say so, each drawn on its own.

  Such as charging, on unmetered Wi-Fi and idle:
  `all_of(nights(), sporadic(0.8), day_and_night(day=0.4, night=0.95))`.

  Args:
    *parts: at least one.

  Raises:
    ValueError: there is no part.
  """
  if not parts:
    raise ValueError('all_of needs at least one part, got none.')

  def make(num_clients: int, seed: int, purpose: str) -> Windows:
    return functools.reduce(both, (
        part.make(num_clients, seed, f'{purpose} {i}')
        for i, part in enumerate(parts)))

  return Availability(make)


def _zones(num_clients: int, seed: int, zones: Sequence[float]) -> np.ndarray:
  """float64 [N], hours that clients' local time is ahead.

  Models of one seed put a client into the same place of their lists.
  """
  drawn = draws.uniforms(seed, 'zone', 0, np.arange(num_clients))
  return np.asarray(zones, np.float64)[(drawn * len(zones)).astype(int)]


def _check_zones(zones: Sequence[float]) -> None:
  if not len(zones):
    raise ValueError('zones must name at least one, got none.')
  for zone in zones:
    if not checks.is_number(zone) or not -24 <= zone <= 24:
      raise ValueError('zones must be hours from -24 to 24, got '
                       f'{checks.shown(zone)}.')


def _hour(name: str, value: float) -> None:
  if checks.non_negative(name, value) >= 24:
    raise ValueError(f'{name} must be an hour in [0, 24), got {value}.')

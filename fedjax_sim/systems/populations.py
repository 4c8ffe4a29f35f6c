"""Populations of devices: drawn from distributions, and mixtures of them."""

from collections.abc import Sequence

import numpy as np

from fedjax_sim.core import checks, random
from fedjax_sim.systems import draws
from fedjax_sim.systems.availability import Availability, Windows
from fedjax_sim.systems.profiles import Failures, Population, Profiles

# The 95th percentile of a standard normal.
_P95 = 1.6448536269514722


def lognormal(
    step_seconds: float = 0.1, down_bps: float = 20e6, up_bps: float = 5e6, *,
    speed_ratio: float = 10.0, bandwidth_ratio: float = 10.0,
    available: Availability | None = None, failures: Failures | None = None,
    training_watts: float | None = None, radio_watts: float | None = None,
    seed: int | None = None,
) -> Population:
  """Log-normal speed and bandwidth, independent of each other.

    seconds a step = step_seconds exp(s z),  s = ln(speed_ratio) / (2 * 1.645)

  for a standard normal z, and likewise of the bandwidth. Up and down have the
  same z: a slow network is slow both ways.

  Args:
    step_seconds: the median of seconds that a local step takes.
    down_bps: of bits a second that a client receives.
    up_bps: of bits a second that it sends.
    speed_ratio: how many times slower the 95th percentile is than the 5th; 1
      for clients that are alike.
    bandwidth_ratio: likewise.
    available: when clients are eligible; None is always.
    failures: how devices are lost; None is never.
    training_watts: of a device that trains, for the energy; None leaves it out.
    radio_watts: of one that sends or receives.
    seed: of the population; None follows the run's.

  Raises:
    ValueError: an argument is out of range.
  """
  medians = {'step_seconds': step_seconds, 'down_bps': down_bps,
             'up_bps': up_bps}
  for name, value in medians.items():
    checks.positive(name, value)
  sigmas = [_sigma('speed_ratio', speed_ratio),
            _sigma('bandwidth_ratio', bandwidth_ratio)]
  watts = _checked_watts(training_watts, radio_watts)
  if seed is not None:
    random.seed('seed', seed)

  def make(num_clients: int, run_seed: int) -> Profiles:
    own = run_seed if seed is None else seed
    normal = draws.generator(own, 'lognormal').standard_normal((num_clients, 2))
    slower, wider = np.exp(normal * sigmas).T
    return Profiles(
        step_seconds * slower, down_bps * wider, up_bps * wider, failures,
        available and available.make(num_clients, own, 'available'),
        *(x and np.full(num_clients, float(x)) for x in watts))

  return Population(make)


def identical(
    step_seconds: float = 0.1, down_bps: float = 20e6, up_bps: float = 5e6, *,
    available: Availability | None = None, failures: Failures | None = None,
    training_watts: float | None = None, radio_watts: float | None = None,
    seed: int | None = None,
) -> Population:
  """Clients that are alike.

  Args:
    step_seconds: that a local step takes.
    down_bps: bits a second that a client receives.
    up_bps: bits a second that it sends.
    available: as in `lognormal`, like the following.
    failures: likewise.
    training_watts: likewise.
    radio_watts: likewise.
    seed: likewise.

  Raises:
    ValueError: an argument is out of range.
  """
  return lognormal(
      step_seconds, down_bps, up_bps, speed_ratio=1.0, bandwidth_ratio=1.0,
      available=available, failures=failures, training_watts=training_watts,
      radio_watts=radio_watts, seed=seed)


def mixture(
    *populations: Population, shares: Sequence[float], seed: int | None = None
) -> Population:
  """Classes of devices, with their shares.

  Args:
    *populations: one of each class.
    shares: of each class among the clients, to which class each is drawn
      independently; positive, of sum 1.
    seed: of who is of which class; None follows the run's.

  Raises:
    ValueError: shares don't fit.
  """
  if len(shares) != len(populations) or not len(shares):
    raise ValueError(f'shares must be as many as there are populations, '
                     f'{len(populations)}, got {len(shares)}.')
  for share in shares:
    checks.positive('shares', share)
  if not np.isclose(sum(shares), 1):
    raise ValueError(f'shares must add up to 1, got {sum(shares)}.')
  if seed is not None:
    random.seed('seed', seed)
  edges = np.cumsum(shares)[:-1]

  def make(num_clients: int, run_seed: int) -> Profiles:
    own = run_seed if seed is None else seed
    kinds = np.searchsorted(edges, draws.uniforms(
        own, 'class', 0, np.arange(num_clients)), side='right')
    made = [one.make(num_clients, draws.derived(own, f'class {i}'))
            for i, one in enumerate(populations)]
    return _joined(made, kinds)

  return Population(make)


def phones(
    wifi: float = 0.7, *, failures: Failures | None = None,
    available: Availability | None = None, seed: int | None = None,
) -> Population:
  """Phones on Wi-Fi and plugged in, and phones on battery and a mobile network.

  Round numbers, not measurements: on Wi-Fi a step takes 0.1 s (median; the
  slowest twentieth takes 10 times as long as the fastest) and 50 Mbit/s come
  down, 15 go up; on battery a step takes 0.2 s, and it is 10 down, 2 up. Both
  train with 3 W and send and receive with 1 W.

  Args:
    wifi: the share of the first kind, in [0, 1].
    failures: as in `lognormal`, of both.
    available: likewise.
    seed: likewise.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.fraction('wifi', wifi)
  common = {'failures': failures, 'available': available,
            'training_watts': 3.0, 'radio_watts': 1.0, 'seed': seed}
  kinds = {'wifi': (wifi, lognormal(0.1, 50e6, 15e6, **common)),
           'battery': (1 - wifi, lognormal(0.2, 10e6, 2e6, **common))}
  there = [pair for pair in kinds.values() if pair[0] > 0]
  shares, populations = zip(*there, strict=True)
  return mixture(*populations, shares=shares, seed=seed)


def _sigma(name: str, ratio: float) -> float:
  checks.positive(name, ratio)
  if ratio < 1:
    raise ValueError(f'{name} must be at least 1, got {ratio}.')
  return float(np.log(ratio)) / (2 * _P95)


def _checked_watts(training, radio) -> tuple:
  for name, value in (('training_watts', training), ('radio_watts', radio)):
    if value is not None:
      checks.positive(name, value)
  if (training is None) != (radio is None):
    raise ValueError(
        'training_watts and radio_watts must be given together, got '
        f'{training!r} and {radio!r}.')
  return training, radio


def _joined(made: Sequence[Profiles], kinds: np.ndarray) -> Profiles:
  """Of each client the profile of its kind."""
  rows = np.arange(len(kinds))
  pick = lambda columns: np.stack(columns)[kinds, rows]
  full = lambda x: np.broadcast_to(np.asarray(x, np.float64), len(kinds))
  lossy = None
  if any(one.failures is not None for one in made):
    lossy = Failures(*(pick([full(x) for x in column]) for column in zip(*(
        one.failures or Failures() for one in made), strict=True)))
  windows = None
  if any(one.windows is not None for one in made):
    windows = _windows_by_kind([one.windows for one in made], kinds)
  watts = [None, None]
  if all(one.training_watts is not None for one in made):
    watts = [pick([one.training_watts for one in made]),
             pick([one.radio_watts for one in made])]
  return Profiles(
      *(pick([one[i] for one in made]) for i in range(3)), lossy, windows,
      *watts)


def _windows_by_kind(
    windows: Sequence[Windows | None], kinds: np.ndarray
) -> Windows:
  def ask(field, always):
    def asked(clients, seconds, *most):
      found = np.full(len(clients), always)
      seconds = np.broadcast_to(seconds, len(clients))
      for kind, one in enumerate(windows):
        here = kinds[clients] == kind
        if one is not None and here.any():
          found[here] = getattr(one, field)(
              clients[here], seconds[here], *most)
      return found
    return asked

  return Windows(ask('is_open', True), ask('left', np.inf), ask('until', 0.0),
                 ask('steady', np.inf))

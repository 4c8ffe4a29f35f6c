"""How many clients to compute side by side: measured, not guessed.

Each lane holds weights of its own, so many lanes read and write much memory;
few leave a wide device idle. On a CPU whose cores are devices
(`core/cpu_devices.py`) a small model is fastest with a client on each core, a
large one whose matrix products use all cores may not be. Which numbers are best
depends on model, device and sizes, and not on anything that could be computed
beforehand. So a few are timed on the real round, with shortened clients, and
the fastest kept.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedjax_sim.core import files
from fedjax_sim.simulation.placement import sharding

# A shortened round that takes this long can be told from noise.
_PROBE_SECONDS = 0.1
_REPEATS = 3
# After two candidates in a row that are slower than this, times the best, the
# rest is not tried.
_HOPELESS = 1.1
# Up to this, times the best, candidates are timed once more.
_FINALIST = 1.4


def candidates(cohort_size: int) -> list[int]:
  """Numbers of lanes worth trying: for each power of two the most even one.

  10 clients fit into three blocks of four lanes, and so do lanes of 10 / 3
  rounded up; more than that number would only be empty slots.
  """
  widths = {1}
  power = 2
  while power < 2 * cohort_size:
    blocks = -(-cohort_size // power)
    widths.add(-(-cohort_size // blocks))
    power *= 2
  return sorted(widths)


def choose(
    make: Callable[[int, int], Any],
    cohort_size: int,
    devices: int | str,
    lanes: int | str,
) -> tuple[Any, str]:
  """The fastest simulation over devices and lanes that fit into memory.

  What was found is kept in the cache folder, by program, sizes of clients,
  device and versions.

  Args:
    make: (devices, lanes) -> `Simulation`.
    cohort_size: M, the most lanes that can be of use.
    devices: D, or 'auto'.
    lanes: W of each device, or 'auto'.

  Returns:
    (the simulation, in words how it was chosen).
  """
  choices = _choices(cohort_size, devices, lanes)
  if len(choices) == 1:
    given = 'auto' not in (devices, lanes)
    return make(*choices[0]), 'given' if given else 'the only choice'
  first = make(*choices[0])
  key = _key(first, choices)
  # Of several processes the first one's file counts.
  known = sharding.from_first(_read().get(key))
  if isinstance(known, list) and tuple(known) in choices:
    known = tuple(known)
    return make(*known) if known != choices[0] else first, 'measured earlier'
  best, seconds = _fastest(make, choices)
  if jax.process_index() == 0:
    _remember(key, (best.placement.size, best.lanes))
  least = min(seconds.values())
  told = ', '.join(f'{d}x{w}: {s / least:.2f}'
                   for (d, w), s in sorted(seconds.items()))
  return best, f'measured, relative time by devices x lanes {told}'


def _choices(
    cohort_size: int, devices: int | str, lanes: int | str
) -> list[tuple[int, int]]:
  """(devices, lanes) in the order in which to try them.

  A CPU is mostly best with few lanes, an accelerator with many; starting there
  leaves the hopeless other end untried.
  """
  most = min(len(jax.devices()), cohort_size)
  numbers = sorted({1, most}, reverse=True)
  if jax.process_count() > 1:  # Every process takes part.
    numbers = [len(jax.devices())]
  choices = []
  for d in numbers if devices == 'auto' else [devices]:
    share = -(-cohort_size // d)
    widths = candidates(share) if lanes == 'auto' else [min(lanes, share)]
    if jax.default_backend() != 'cpu':
      widths = widths[::-1]
    choices += [(d, w) for w in widths]
  return choices


def _fastest(make, choices) -> tuple[Any, dict[tuple[int, int], float]]:
  seconds: dict[tuple[int, int], float] = {}
  fraction, misses, errors, tried = None, {}, {}, {}
  for choice in choices:
    if misses.get(choice[0], 0) == 2:
      continue
    simulation = make(*choice)
    try:
      _ = simulation.program.compiled
    except ValueError as error:  # It doesn't fit into memory.
      errors[choice] = error
      continue
    fraction = fraction or _probe_fraction(simulation)
    seconds[choice] = _time(simulation, fraction, _REPEATS)
    tried[choice] = simulation
    if seconds[choice] > _HOPELESS * min(seconds.values()):
      misses[choice[0]] = misses.get(choice[0], 0) + 1
  if not tried:
    raise errors[min(errors)]  # With what takes least.
  # The best ones in turns: a slow second of the machine must not decide.
  finalists = [choice for choice in seconds
               if seconds[choice] < _FINALIST * min(seconds.values())]
  for _ in range(_REPEATS if len(finalists) > 1 else 0):
    for choice in finalists:
      again = _time(tried[choice], fraction, 1)
      seconds[choice] = min(seconds[choice], again)
  return tried[min(seconds, key=seconds.get)], seconds


def _probe_fraction(simulation) -> float:
  """How much of every client makes a round that is long enough to be timed."""
  fraction = min(1.0, 16 / simulation.train.max_size)
  while fraction < 1 and _time(simulation, fraction, 1) < _PROBE_SECONDS:
    fraction = min(1.0, 4 * fraction)
  return fraction


def _time(simulation, fraction: float, repeats: int) -> float:
  """Seconds of the first round with clients cut to a fraction, the least."""
  state = simulation.init_on_devices()
  window = simulation.window(0, 1)
  slots = window.plan.slots
  size = np.ceil(fraction * slots.size).astype(np.int32)
  plan = simulation.place(
      window.plan._replace(slots=slots._replace(size=size)))
  times = []
  for _ in range(repeats + 1):  # The first is to warm up.
    begun = time.perf_counter()
    state, _ = jax.block_until_ready(
        simulation.call(window.examples, state, plan, 0, 1))
    times.append(time.perf_counter() - begun)
  return float(sharding.agree(min(times[1:]))[0])


def _key(simulation, choices) -> str:
  """Changes with whatever the best number of lanes may depend on."""
  device = jax.devices()[0]
  sizes = np.percentile(simulation.train.sizes, range(0, 101, 10))
  # Without its fractional constants: another rate takes the same time.
  program = re.sub(r'dense<[^>]*>(?= : tensor<[\dx]*f\d+>)', '',
                   simulation.program.lower().as_text())
  parts = [program, sizes.tolist(),
           choices, device.platform, device.device_kind, os.cpu_count(),
           jax.__version__]
  return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _file() -> Path:
  return files.cache_folder() / 'lanes.json'


def _read() -> dict[str, list[int]]:
  try:
    return dict(json.loads(_file().read_text()))
  except (OSError, ValueError, TypeError):
    return {}


def _remember(key: str, choice: tuple[int, int]) -> None:
  """Keeps a choice; a cache that can't be written is done without."""
  try:
    _file().parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(_file()) as file:
      file.write(json.dumps(_read() | {key: choice}, indent=1).encode())
  except OSError:
    pass

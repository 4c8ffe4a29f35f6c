"""How many clients to compute side by side, and on how many devices.

Each lane holds weights of its own, so many lanes read and write much memory;
few leave a wide device idle. On a CPU whose cores are devices
(`core/cpu_devices.py`) a small model is fastest with a client on each core, a
large one whose matrix products use all cores may not be. Which numbers are best
there depends on model, device and sizes, and not on anything that could be
computed beforehand. A good first choice can be told, though, and short jobs
take it; for long ones a few are timed on the real round, with shortened
clients.

An accelerator is fastest with as many lanes as its memory holds, or nearly, and
compiling for one takes long. So nothing is timed there unless it is asked for.
"""

import functools
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedjax_sim.core import compilation, files
from fedjax_sim.simulation import fitting, job_size, measuring
from fedjax_sim.simulation.placement import sharding

# Measuring takes a minute or two, and saves a tenth or two of a job's time. So
# a shorter one is run with the first choice.
_LONG_SECONDS = 600.0

# What `lanes` may be beside a number: 'measure' times choices in any case.
WORDS = ('auto', 'measure')


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
    rounds: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Any, str]:
  """A simulation over devices and lanes that fit into memory.

  An accelerator takes all clients side by side, or as many as fit. On a CPU a
  short job takes the first choice; for a long one the fastest is measured. What
  was found is kept in the cache folder, by program, sizes of clients, device
  and versions, if it was clear.

  Args:
    make: (devices, lanes) -> `Simulation`.
    cohort_size: M, the most lanes that can be of use.
    devices: D, or 'auto'.
    lanes: W of each device, 'auto', or 'measure' to have it measured whatever
      the job and the device.
    rounds: of the job; None if that isn't known, which counts as short.
    say: told what takes a while, before it begins.

  Returns:
    (the simulation, in words how it was chosen).

  Raises:
    ValueError: none fits.
  """
  measure = lanes == 'measure'
  choices = _choices(cohort_size, devices, 'auto' if measure else lanes)
  if _platform() != 'cpu' and not measure and 'auto' in (devices, lanes):
    return _widest(make, choices, lanes, say)
  first = make(*choices[0])
  if len(choices) == 1:
    given = 'auto' not in (devices, lanes)
    return first, 'given' if given else 'the only choice'
  say('compiling the rounds')
  if not measure and (
      rounds is None or job_size.seconds(first, rounds) < _LONG_SECONDS):
    return _first_that_fits(make, first, choices), (
        'default' if rounds is None else 'default of a short job')
  key = _key(first, choices)
  # Of several processes the first one's file counts.
  known = sharding.from_first(_read().get(key))
  if isinstance(known, list) and tuple(known) in choices:
    known = tuple(known)
    return make(*known) if known != choices[0] else first, 'measured earlier'
  say(f'measuring up to {len(choices)} ways to lay a round out, which takes a '
      'minute or two')
  measured = measuring.fastest(make, choices)
  best, least = measured.best, min(measured.seconds.values())
  told = 'relative time by devices x lanes ' + ', '.join(
      f'{d}x{w}: {s / least:.2f}'
      for (d, w), s in sorted(measured.seconds.items()))
  if measured.unclear:
    return best, f'default, since {measured.unclear}; measured, {told}'
  if jax.process_index() == 0:
    _remember(key, (best.placement.size, best.lanes))
  return best, f'measured, {told}'


def _widest(make, choices, lanes, say) -> tuple[Any, str]:
  """Of all devices, the most lanes for which there is memory."""
  say('compiling the rounds')
  devices, most = choices[0]
  chosen = fitting.widest(
      functools.partial(make, devices),
      [w for d, w in choices if d == devices])
  if lanes != 'auto':
    return chosen, 'all devices'
  return chosen, ('all clients side by side' if chosen.lanes == most
                  else 'as many as the memory holds')


def _platform() -> str:
  return compilation.platform_of(jax.devices()[0])


def _first_that_fits(make, first, choices) -> Any:
  """The first choice for which there is memory."""
  errors = {}
  for choice in choices:
    simulation = first if choice == choices[0] else make(*choice)
    try:
      _ = simulation.program.compiled
      return simulation
    except ValueError as error:
      errors[choice] = error
  raise errors[min(errors)]  # With what takes least.


def _choices(
    cohort_size: int, devices: int | str, lanes: int | str
) -> list[tuple[int, int]]:
  """(devices, lanes) in the order in which to try them; the first is good.

  A CPU is mostly best with a client on each core, an accelerator with all
  clients of a round at once; starting there leaves the hopeless other end
  untried.
  """
  most = min(len(jax.devices()), cohort_size)
  numbers = sorted({1, most}, reverse=True)
  if jax.process_count() > 1:  # Every process takes part.
    numbers = [len(jax.devices())]
  choices = []
  for d in numbers if devices == 'auto' else [devices]:
    share = -(-cohort_size // d)
    widths = candidates(share) if lanes == 'auto' else [min(lanes, share)]
    if _platform() != 'cpu':
      widths = widths[::-1]
    choices += [(d, w) for w in widths]
  return choices


def _key(simulation, choices) -> str:
  """Changes with whatever the best number of lanes may depend on."""
  device = jax.devices()[0]
  sizes = np.percentile(simulation.train.sizes, range(0, 101, 10))
  # Without its fractional constants: another rate takes the same time.
  program = re.sub(r'dense<[^>]*>(?= : tensor<[\dx]*f\d+>)', '',
                   simulation.program.traced.lower().as_text())
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

"""Whether a compiled program fits into the device's memory."""

from pathlib import Path
from typing import NamedTuple

import jax

from fedjax_sim.simulation.placement import sharding


class Memory(NamedTuple):
  """Bytes that a program takes at its peak, as the compiler counts them.

  Of each device, or of all of a process where they share the host's memory.

  Attributes:
    held: of arguments and results; a donated argument counts once.
    temporary: of arrays in between.
  """

  held: float
  temporary: float

  @property
  def total(self) -> float:
    return self.held + self.temporary


def check(
    program: jax.stages.Compiled, placement: sharding.Placement, lanes: int
) -> None:
  """ValueError if a program doesn't fit.

  Args:
    program: the rounds.
    placement: the devices, of all processes together.
    lanes: W, to be told.
  """
  need, have = needed(program, placement), available(jax.local_devices()[0])
  if not fits(need, have):
    raise ValueError(
        f'the rounds need {need.total / 1e9:.1f} GB of memory with lanes = '
        f'{lanes}, the device has {have / 1e9:.1f} GB. Fewer lanes, a smaller '
        'micro_batch_size, fewer clients a round (for states and buffers), a '
        'smaller max_lag of asynchronous reports or smaller evaluation batches '
        'take less.')


def fits(need: Memory | None, have: float | None) -> bool:
  """Whether a program may be run: where nobody tells, it is tried."""
  return need is None or have is None or need.total <= have


def needed(
    program: jax.stages.Compiled, placement: sharding.Placement
) -> Memory | None:
  """What a program takes; None where the backend doesn't tell."""
  memory = program.memory_analysis()
  if memory is None:
    return None
  sharing = 1
  if placement.platform == 'cpu':
    sharing = placement.size // jax.process_count()
  held = (memory.argument_size_in_bytes + memory.output_size_in_bytes
          - memory.alias_size_in_bytes)
  return Memory(held * sharing, memory.temp_size_in_bytes * sharing)


def available(device: jax.Device) -> int | None:
  """Bytes that programs on a device may take, None where it is not known.

  For an accelerator its memory limit; for a CPU what the system could give out
  now, which leaves out what this process holds already.
  """
  stats = device.memory_stats()
  if stats and 'bytes_limit' in stats:
    return stats['bytes_limit']
  if device.platform == 'cpu':
    return _system_available(Path('/proc/meminfo'))
  return None


def _system_available(meminfo: Path) -> int | None:
  try:
    for line in meminfo.read_text().splitlines():
      name, value, *_ = line.split()
      if name == 'MemAvailable:':
        return int(value) * 1024
  except OSError:
    pass  # Not Linux.
  return None

"""Whether a compiled program fits into the device's memory."""

from pathlib import Path

import jax


def check(program: jax.stages.Compiled, devices: int, lanes: int) -> None:
  """ValueError if a program doesn't fit.

  Args:
    program: the rounds, on `devices` of all processes together.
    devices: D.
    lanes: W, to be told.
  """
  need = needed(program, devices // jax.process_count())
  have = available(jax.local_devices()[0])
  if need is not None and have is not None and need > have:
    raise ValueError(
        f'the rounds need {need / 1e9:.1f} GB of memory with lanes = {lanes}, '
        f'the device has {have / 1e9:.1f} GB. Fewer lanes, a smaller '
        'micro_batch_size, fewer clients a round (for states and buffers) or '
        'smaller evaluation batches take less.')


def needed(program: jax.stages.Compiled, devices: int = 1) -> int | None:
  """Bytes that a program takes at its peak, as the compiler counts them.

  Arguments, results and temporary arrays; a donated argument counts once. Of
  each device, or of all of them where they share the host's memory. None where
  the backend doesn't tell.
  """
  memory = program.memory_analysis()
  if memory is None:
    return None
  each = (memory.argument_size_in_bytes + memory.output_size_in_bytes
          - memory.alias_size_in_bytes + memory.temp_size_in_bytes)
  return each * (devices if jax.default_backend() == 'cpu' else 1)


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

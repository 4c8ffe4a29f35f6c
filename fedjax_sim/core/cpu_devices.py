"""A CPU's cores as devices of their own."""

import os

import jax


def use_all_cores() -> int:
  """Makes each CPU core a JAX device, so that clients can train side by side.

  JAX by itself sees one CPU, and gives a second core work only within large
  matrix products. Must come before JAX first computes anything; what is set
  already (`JAX_NUM_CPU_DEVICES`, XLA_FLAGS) stays. Accelerators are used as
  they are.

  Returns:
    The number of devices that JAX has.

  Raises:
    ValueError: JAX has computed already and has fewer.
  """
  cores = _cores()
  forced = 'xla_force_host_platform_device_count'
  if (jax.config.jax_num_cpu_devices <= 0
      and forced not in os.environ.get('XLA_FLAGS', '')):
    try:
      jax.config.update('jax_num_cpu_devices', cores)
    except RuntimeError as error:
      present = len(jax.devices())
      if jax.default_backend() == 'cpu' and present < cores:
        raise ValueError(
            f'use_all_cores() must come before JAX first computes anything; '
            f'JAX has started with {present} of {cores} devices.') from error
  return len(jax.devices())


def _cores() -> int:
  """CPU cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):  # Not everywhere.
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1

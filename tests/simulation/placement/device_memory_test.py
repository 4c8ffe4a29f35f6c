import jax
from jax import numpy as jnp

from fedjax_sim.simulation.placement import device_memory


def test_needed_counts_arguments_results_and_what_is_between():
  x = jnp.zeros((256, 256))
  plain = jax.jit(lambda x: x @ x).lower(x).compile()
  assert device_memory.needed(plain) >= 2 * x.nbytes
  donated = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
  assert x.nbytes <= device_memory.needed(donated) < 2 * x.nbytes


def test_available_is_that_of_the_system(tmp_path):
  file = tmp_path / 'meminfo'
  file.write_text('MemTotal: 100 kB\nMemFree: 3 kB\nMemAvailable: 42 kB\n')
  assert device_memory._system_available(file) == 42 * 1024
  assert device_memory._system_available(tmp_path / 'none') is None

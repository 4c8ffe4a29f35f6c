import jax
from jax import numpy as jnp

from fedjax_sim.simulation.placement import device_memory, sharding


def test_needed_counts_arguments_results_and_what_is_between():
  x, one = jnp.zeros((256, 256)), sharding.place(1)
  plain = jax.jit(lambda x: x @ x).lower(x).compile()
  assert device_memory.needed(plain, one).held >= 2 * x.nbytes
  donated = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
  assert x.nbytes <= device_memory.needed(donated, one).total < 2 * x.nbytes
  between = jax.jit(lambda x: jnp.sort(x @ x) @ x).lower(x).compile()
  assert device_memory.needed(between, one).temporary >= x.nbytes


def test_devices_of_a_cpu_share_its_memory():
  program = jax.jit(lambda x: x + 1).lower(jnp.zeros(256)).compile()
  one, two = (device_memory.needed(program, sharding.place(count))
              for count in (1, 2))
  assert two.total == 2 * one.total


def test_available_is_that_of_the_system(tmp_path):
  file = tmp_path / 'meminfo'
  file.write_text('MemTotal: 100 kB\nMemFree: 3 kB\nMemAvailable: 42 kB\n')
  assert device_memory._system_available(file) == 42 * 1024
  assert device_memory._system_available(tmp_path / 'none') is None

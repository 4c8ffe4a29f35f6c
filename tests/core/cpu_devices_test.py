import os
import subprocess
import sys

import pytest

import fedjax_sim
from fedjax_sim.core import cpu_devices


def run_in_new_process(code, **environment):
  """What it prints, where nothing but `environment` says how many."""
  clean = {k: v for k, v in os.environ.items()
           if k not in ('XLA_FLAGS', 'JAX_NUM_CPU_DEVICES')}
  return subprocess.run(
      [sys.executable, '-c', f'import fedjax_sim, jax\n{code}'],
      env=clean | environment, capture_output=True, text=True,
      check=True).stdout


def count_in_new_process(**environment):
  told, present = map(int, run_in_new_process(
      'print(fedjax_sim.use_all_cores(), len(jax.devices()))',
      **environment).split())
  assert told == present
  return told


def test_each_core_is_a_device():
  assert count_in_new_process() == cpu_devices._cores()


@pytest.mark.slow
def test_what_the_user_has_set_stays():
  assert count_in_new_process(JAX_NUM_CPU_DEVICES='3') == 3
  flag = '--xla_force_host_platform_device_count=4'
  assert count_in_new_process(XLA_FLAGS=flag) == 4


def test_cores_that_are_set_already_stay():
  assert fedjax_sim.use_all_cores() == 8  # As conftest.py has set.


def test_too_late_is_told():
  told = run_in_new_process('''
from fedjax_sim.core import cpu_devices
cpu_devices._cores = lambda: 5
jax.devices()
try:
  fedjax_sim.use_all_cores()
except ValueError as error:
  print(error)
''')
  assert 'must come before JAX first computes' in told
  assert 'started with 1 of 5 devices' in told

import os
import subprocess
import sys

import jax
import pytest

import fedjax_sim
from fedjax_sim.core import cpu_devices


def count_in_new_process(code, **environment):
  clean = {k: v for k, v in os.environ.items()
           if k not in ('XLA_FLAGS', 'JAX_NUM_CPU_DEVICES')}
  process = subprocess.run(
      [sys.executable, '-c', f'import fedjax_sim, jax\n{code}\n'
       'print(fedjax_sim.use_all_cores(), len(jax.devices()))'],
      env=clean | environment, capture_output=True, text=True, check=True)
  told, present = map(int, process.stdout.split())
  assert told == present
  return told


def test_each_core_is_a_device():
  assert count_in_new_process('') == cpu_devices._cores()
  # Any number: not only that of this machine.
  assert count_in_new_process(
      'from fedjax_sim.core import cpu_devices\n'
      'cpu_devices._cores = lambda: 5') == 5


def test_what_the_user_has_set_stays():
  assert count_in_new_process('', JAX_NUM_CPU_DEVICES='3') == 3
  flag = '--xla_force_host_platform_device_count=4'
  assert count_in_new_process('', XLA_FLAGS=flag) == 4


def test_too_late_is_told(monkeypatch):
  monkeypatch.setattr(cpu_devices, '_cores', lambda: len(jax.devices()) + 1)
  with pytest.raises(ValueError, match='must come before JAX first computes'):
    fedjax_sim.use_all_cores()

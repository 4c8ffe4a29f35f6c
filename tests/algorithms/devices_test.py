"""Every algorithm over several devices, which need a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize('which', [
    'not slow', pytest.param('slow', marks=pytest.mark.slow)])
def test_on_three_devices(which):
  file = Path(__file__).parent / 'three_devices.py'
  process = subprocess.run(
      [sys.executable, '-m', 'pytest', '-q', '-n0', '-m', which, '-p',
       'no:cacheprovider', file], env=os.environ | {'JAX_NUM_CPU_DEVICES': '3'},
      capture_output=True, text=True)
  assert process.returncode == 0, process.stdout[-8000:]

"""Rounds over several devices, which need a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

# Of the engine's tests these don't depend on the number of devices.
_ELSEWHERE = ('leak', 'labels_beyond', 'divergence', 'flags_and_rows',
              'does_not_compile', 'masked_row')


def test_on_eight_devices():
  file = Path(__file__).parent / 'eight_devices.py'
  process = subprocess.run(
      [sys.executable, '-m', 'pytest', '-q', '-n0', '-p', 'no:cacheprovider',
       '-k', f'not ({" or ".join(_ELSEWHERE)})', file],
      env=os.environ | {'JAX_NUM_CPU_DEVICES': '8'}, capture_output=True,
      text=True)
  assert process.returncode == 0, process.stdout[-8000:]

"""Every algorithm over several devices, which need a process of their own."""

import os
import subprocess
import sys
from pathlib import Path


def test_on_three_devices():
  file = Path(__file__).parent / 'three_devices.py'
  process = subprocess.run(
      [sys.executable, '-m', 'pytest', '-q', '-n0', '-p', 'no:cacheprovider',
       file], env=os.environ | {'JAX_NUM_CPU_DEVICES': '3'},
      capture_output=True, text=True)
  assert process.returncode == 0, process.stdout[-8000:]

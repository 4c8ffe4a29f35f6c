"""A folder is loaded where there are other devices than the run had."""

import os
import subprocess
import sys
from pathlib import Path

from configs import digits_quickstart
from fedjax_sim.experiment import run as run_lib

ROOT = Path(__file__).parents[2]
LOAD = '''
import sys
import jax, numpy as np
import fedjax_sim as fs
assert jax.device_count() == 1
loaded = fs.load(sys.argv[1])
with np.load(sys.argv[1] + '/final_params.npz') as final:
  for name, leaf in zip(sorted(final), map(
      np.asarray, jax.tree.leaves(loaded.variables.params)), strict=True):
    np.testing.assert_array_equal(final[name], leaf)
print(loaded.round)
'''


def test_a_run_of_two_devices_is_loaded_by_a_process_with_one(tmp_path):
  config = digits_quickstart.get_config()
  config.update(rounds=1, devices=2, lanes=1, model='logistic_regression')
  assert run_lib.run(config.lock(), 'test', workdir_path=tmp_path) == 0
  loaded = subprocess.run(
      [sys.executable, '-c', LOAD, tmp_path],
      env=os.environ | {'PYTHONPATH': str(ROOT), 'XLA_FLAGS': ''}, check=True,
      capture_output=True, text=True)
  assert loaded.stdout.split()[-1] == '1'

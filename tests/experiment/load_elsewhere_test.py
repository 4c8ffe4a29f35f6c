"""A folder is loaded where there are other devices than the run had."""

import os
import subprocess
import sys
from pathlib import Path

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
  environment = os.environ | {'PYTHONPATH': str(ROOT), 'XLA_FLAGS': ''}
  subprocess.run(
      [sys.executable, ROOT / 'run.py',
       f'--config={ROOT / "configs" / "digits_quickstart.py"}',
       '--config.rounds=1', '--config.devices=2', '--config.lanes=1',
       '--config.model=logistic_regression', f'--workdir={tmp_path}'],
      env=environment | {
          'XLA_FLAGS': '--xla_force_host_platform_device_count=2'},
      check=True, capture_output=True)
  loaded = subprocess.run(
      [sys.executable, '-c', LOAD, tmp_path], env=environment, check=True,
      capture_output=True, text=True)
  assert loaded.stdout.split()[-1] == '1'

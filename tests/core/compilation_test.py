import os
import subprocess
import sys

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core import compilation

SCRIPT = """
import jax
from fedjax_sim import compilation
compilation.keep_programs()
print(jax.config.jax_compilation_cache_dir)
"""


def folder_with(**variables):
  environment = {**os.environ, **variables}
  for name in ('JAX_COMPILATION_CACHE_DIR',):
    if name not in variables:
      environment.pop(name, None)
  done = subprocess.run([sys.executable, '-c', SCRIPT], env=environment,
                        capture_output=True, text=True, check=True)
  return done.stdout.strip()


def test_programs_are_kept_in_our_cache_unless_the_user_says_where(tmp_path):
  ours = {'FEDJAX_SIM_CACHE_DIR': str(tmp_path)}
  assert folder_with(**ours) == str(tmp_path / 'programs')
  assert folder_with(JAX_COMPILATION_CACHE_DIR='/own', **ours) == '/own'


def test_the_compiler_takes_the_options_and_computes_the_same():
  """Weights that a step reads and replaces, the case the options are for."""
  def run(w):
    return jax.lax.fori_loop(
        0, 5, lambda i, w: w - 0.1 * jnp.tanh(w @ w.T) @ w, w)
  w = jax.random.normal(jax.random.key(0), (8, 8))
  compiled = jax.jit(run).lower(w).compile(
      compiler_options=compilation.options())
  want = np.asarray(w, np.float64)
  for _ in range(5):
    want = want - 0.1 * np.tanh(want @ want.T) @ want
  np.testing.assert_allclose(compiled(w), want, rtol=1e-4, atol=1e-4)

import types

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim.core import compilation
from fedjax_sim.simulation.placement import sharding


@pytest.fixture
def settings():
  """Sets the folder and the least time; puts back what was set."""
  names = ('jax_compilation_cache_dir',
           'jax_persistent_cache_min_compile_time_secs')
  before = [getattr(jax.config, name) for name in names]
  def update(*values):
    for name, value in zip(names, values, strict=True):
      jax.config.update(name, value)
  yield update
  update(*before)


@pytest.mark.parametrize('folder, least, then', [
    (None, 1.0, 0.0), (None, 9.0, 9.0), ('/own', 1.0, 1.0)])
def test_programs_are_kept_in_our_cache_unless_the_user_says_otherwise(
    tmp_path, monkeypatch, settings, folder, least, then):
  monkeypatch.setenv('FEDJAX_SIM_CACHE_DIR', str(tmp_path))
  settings(folder, least)
  compilation.keep_programs()
  assert jax.config.jax_compilation_cache_dir == (
      folder or str(tmp_path / 'programs'))
  assert jax.config.jax_persistent_cache_min_compile_time_secs == then


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path, monkeypatch, settings):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('FEDJAX_SIM_CACHE_DIR', str(tmp_path / 'file'))
  settings(None, 1.0)
  compilation.keep_programs()
  assert jax.config.jax_compilation_cache_dir is None


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


def test_a_program_is_traced_for_the_devices_of_its_mesh():
  """Also what JAX has traced for another platform before."""
  seen = []

  @jax.jit
  def inner(x):
    seen.append(compilation.platform())
    return x

  placement = sharding.place(1)
  everywhere = placement.everywhere
  run = sharding.spread(inner, placement, everywhere, everywhere)
  with compilation.target('tpu'):
    inner.trace(1.0)
    run.trace(1.0)
  inner.trace(1.0)
  assert seen == ['tpu', 'cpu', jax.default_backend()]


@pytest.mark.parametrize('name, platform', [
    ('cpu', 'cpu'), ('tpu', 'tpu'), ('gpu', 'gpu'), ('cuda', 'gpu'),
    ('rocm', 'gpu')])
def test_platforms_of_devices_have_one_name(name, platform):
  device = types.SimpleNamespace(platform=name)
  assert compilation.platform_of(device) == platform

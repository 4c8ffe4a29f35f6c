import shutil

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim.core.types import ServerState, Variables
from fedjax_sim.experiment import checkpoints


def state_of(value):
  return ServerState(
      jnp.int32(value), Variables({'w': jnp.full((3, 2), value + 0.1)}, {}),
      opt_state=(jnp.float32(value), ()), extra=jax.random.key(value))


def test_a_state_comes_back_bit_for_bit(tmp_path):
  with checkpoints.Checkpoints(tmp_path, keep=2) as saved:
    assert saved.latest() is None
    for r in (1, 2, 5):
      saved.save(r, state_of(r))
    assert saved.latest() == 5
  with checkpoints.Checkpoints(tmp_path, keep=2) as saved:
    got = saved.restore(5, like=state_of(0))
  assert jax.tree.structure(got) == jax.tree.structure(state_of(5))
  jax.tree.map(np.testing.assert_array_equal, got._replace(extra=()),
               state_of(5)._replace(extra=()))
  assert got.extra == jax.random.key(5)
  np.testing.assert_array_equal(
      jax.random.normal(got.extra), jax.random.normal(jax.random.key(5)))


def test_only_the_last_few_are_kept(tmp_path):
  with checkpoints.Checkpoints(tmp_path, keep=2) as saved:
    for r in range(1, 6):
      saved.save(r, state_of(r))
  kept = sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit())
  assert kept == ['4', '5']


@pytest.mark.parametrize('read', [
    lambda saved: saved.restore(2, like=state_of(0)),
    lambda saved: saved.shapes(2)])
def test_a_damaged_one_is_named_and_the_one_before_stays(tmp_path, read):
  with checkpoints.Checkpoints(tmp_path, keep=2) as saved:
    saved.save(1, state_of(1))
    saved.save(2, state_of(2))
  for path in (tmp_path / '2').rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
  with checkpoints.Checkpoints(tmp_path, keep=2) as saved:
    assert saved.latest() == 2
    with pytest.raises(ValueError, match=(
        f"{tmp_path}/2 can't be read; the one before it is 1 ")):
      read(saved)
  shutil.rmtree(tmp_path / '2')
  with checkpoints.Checkpoints(tmp_path, keep=2) as saved:
    got = saved.restore(saved.latest(), like=state_of(0))
  assert int(got.round) == 1


def test_npz_by_flattened_names(tmp_path):
  tree = {'params': {'Dense_0': {'kernel': jnp.ones((2, 3))}, 'b': [1.0, 2.0]}}
  checkpoints.save_npz(tmp_path / 'p.npz', tree)
  with np.load(tmp_path / 'p.npz') as arrays:
    assert set(arrays) == {'params/Dense_0/kernel', 'params/b/0', 'params/b/1'}
    np.testing.assert_array_equal(arrays['params/Dense_0/kernel'],
                                  np.ones((2, 3)))


def test_an_interrupted_npz_leaves_the_old_one(tmp_path, monkeypatch):
  path = tmp_path / 'p.npz'
  checkpoints.save_npz(path, {'w': np.ones(3)})
  before = path.read_bytes()
  def broken(file, **arrays):
    file.write(b'half')
    raise OSError('disk full')
  monkeypatch.setattr(np, 'savez', broken)
  with pytest.raises(OSError):
    checkpoints.save_npz(path, {'w': np.zeros(3)})
  assert path.read_bytes() == before
  assert [p.name for p in tmp_path.iterdir()] == ['p.npz']

from typing import Any, NamedTuple

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


def test_a_state_of_another_version_is_read_by_the_names_of_its_leaves(
    tmp_path
):
  """A field without leaves may come; one with leaves is asked for by name."""
  class Later(NamedTuple):
    host: Any
    server: ServerState

  with checkpoints.Checkpoints(tmp_path, keep=2) as saved:
    saved.save(1, {'server': state_of(1)._replace(extra=())})
    later = Later((), state_of(0)._replace(extra=()))
    got = saved.restore(1, like=later)
    assert jax.tree.structure(got) == jax.tree.structure(later)
    assert got.server.variables.params['w'][0, 0] == np.float32(1.1)
    with pytest.raises(ValueError, match='lacks host and has nothing'):
      saved.restore(1, like=later._replace(host=jnp.int32(0)))


def test_only_the_last_few_are_kept(tmp_path):
  with checkpoints.Checkpoints(tmp_path, keep=2) as saved:
    for r in range(1, 6):
      saved.save(r, state_of(r))
  kept = sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit())
  assert kept == ['4', '5']


@pytest.fixture(name='two')
def two_fixture(tmp_path):
  """A folder with checkpoints of rounds 1 and 2."""
  with checkpoints.Checkpoints(tmp_path, keep=2) as saved:
    saved.save(1, state_of(1))
    saved.save(2, state_of(2), {'recorded': 7})
  return tmp_path


def files_of(folder):
  found = sorted(p for p in folder.rglob('*') if p.is_file())
  assert len(found) > 5 and folder / 'manifest.json' in found
  return found


def flip(file, place):
  content = bytearray(file.read_bytes())
  content[place // 8] ^= 1 << place % 8
  file.write_bytes(content)


def zero(file):
  file.write_bytes(bytes(file.stat().st_size))


def halve(file):
  file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])


def lengthen(file):
  file.write_bytes(file.read_bytes() + b'\0')


def add(file):
  file.with_name('another').write_bytes(b'')


@pytest.mark.parametrize(
    'damage', [zero, halve, lengthen, add, lambda file: file.unlink()])
def test_a_damaged_file_is_named_with_the_good_one_before(two, damage):
  for file in files_of(two / '2'):
    if not file.stat().st_size and damage in (zero, halve):
      continue
    before = file.read_bytes()
    damage(file)
    other = file.with_name('another')
    name = other if other.exists() else file
    with checkpoints.Checkpoints(two, keep=2) as saved:
      for read in (lambda s: s.restore(2, like=state_of(0)),
                   lambda s: s.shapes(2), lambda s: s.notes(2),
                   lambda s: s.verify()):
        with pytest.raises(ValueError, match=(
            f"{two}/2 can't be used: {name} .*before it is that of round 1")):
          read(saved)
    other.unlink(missing_ok=True)
    file.write_bytes(before)
  with checkpoints.Checkpoints(two, keep=2) as saved:
    assert saved.notes(2) == {'recorded': 7}


def test_a_flipped_bit_anywhere(two):
  rng = np.random.default_rng(0)
  for file in files_of(two / '2'):
    before = file.read_bytes()
    for place in rng.integers(0, 8 * max(len(before), 1), 20):
      if before:
        flip(file, place)
        with checkpoints.Checkpoints(two, keep=2) as saved:
          with pytest.raises(ValueError, match=f'used: {file} is damaged'):
            saved.restore(2, like=state_of(0))
        file.write_bytes(before)


def test_the_one_before_is_used_and_the_damaged_one_kept(two, capsys):
  for again in ('', '-2'):
    flip(two / '2' / 'state' / '_METADATA', 99)
    damaged = (two / '2' / 'state' / '_METADATA').read_bytes()
    with checkpoints.Checkpoints(two, keep=2) as saved:
      assert saved.latest() == 2
      assert saved.newest_good() == saved.latest() == 1
      assert int(saved.restore(1, like=state_of(0)).round) == 1
      saved.save(2, state_of(2))
    aside = two / f'2.damaged{again}'
    assert f'It is kept as {aside.name}, and' in capsys.readouterr().out
    assert (aside / 'state' / '_METADATA').read_bytes() == damaged
  with checkpoints.Checkpoints(two, keep=2) as saved:
    assert int(saved.restore(2, like=state_of(0)).round) == 2
  zero(two / '2' / 'manifest.json')
  zero(two / '1' / 'manifest.json')
  with checkpoints.Checkpoints(two, keep=2) as saved:
    with pytest.raises(ValueError, match='There is no good one before it'):
      saved.newest_good()
  assert (two / '2').exists() and (two / '1').exists()


def test_a_full_disk_leaves_the_checkpoints_before(two, monkeypatch):
  def full(*args, **kwargs):
    raise ValueError('RESOURCE_EXHAUSTED: Error writing: No space left')
  before = sorted(two.rglob('*'))
  with checkpoints.Checkpoints(two, keep=2) as saved:
    monkeypatch.setattr(saved._orbax, 'save', full)
    with pytest.raises(OSError, match='No space left on device') as caught:
      saved.save(3, state_of(3))
    assert caught.value.filename == f'{two}/3'
    assert sorted(two.rglob('*')) == before and saved.latest() == 2


def test_npz_by_flattened_names(tmp_path):
  tree = {'params': {'Dense_0': {'kernel': jnp.ones((2, 3))}, 'b': [1.0, 2.0]}}
  checkpoints.save_npz(tmp_path / 'p.npz', tree)
  with np.load(tmp_path / 'p.npz') as arrays:
    assert set(arrays) == {'params/Dense_0/kernel', 'params/b/0', 'params/b/1'}
    np.testing.assert_array_equal(arrays['params/Dense_0/kernel'],
                                  np.ones((2, 3)))
  before = (tmp_path / 'p.npz').read_bytes()
  checkpoints.save_npz(tmp_path / 'p.npz', tree)
  assert (tmp_path / 'p.npz').read_bytes() == before


def test_an_interrupted_npz_leaves_the_old_one(tmp_path, monkeypatch):
  path = tmp_path / 'p.npz'
  checkpoints.save_npz(path, {'w': np.ones(3)})
  before = path.read_bytes()
  def broken(file, *args, **options):
    file.write(b'half')
    raise OSError('disk full')
  monkeypatch.setattr(np.lib.format, 'write_array', broken)
  with pytest.raises(OSError):
    checkpoints.save_npz(path, {'w': np.zeros(3)})
  assert path.read_bytes() == before
  assert [p.name for p in tmp_path.iterdir()] == ['p.npz']

"""States of clients on disk: what is read back, and what a kill leaves."""

import errno
import os

import jax
import ml_dtypes
import numpy as np
import pytest

from fedjax_sim.simulation.placement import client_store
from fedjax_sim.simulation.placement.client_store import ClientStore

FIRST = {
    'w': np.arange(6, dtype=np.float32).reshape(2, 3),
    'count': np.int32(7),
    'flag': np.array([True, False]),
    'half': np.array([1.5, -2], ml_dtypes.bfloat16),
    'pair': (np.zeros((0, 2), np.float32), np.uint8(200)),
}


def states(clients, salt=0):
  """Different ones for each client and salt; all bit patterns, NaN too."""
  def one(x):
    rows = [np.random.default_rng([salt, c]).bytes(x.nbytes) for c in clients]
    if x.dtype == bool:
      return np.array([[salt % 2 == 0, c % 2 == 0] for c in clients],
                      bool).reshape(len(rows), 2)
    return np.frombuffer(b''.join(rows), x.dtype).reshape(len(rows), *x.shape)
  return jax.tree.map(one, FIRST)


def assert_bits(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert a.tobytes() == b.tobytes()


@pytest.fixture(params=['folder', 'temporary', 'growing'])
def store(request, tmp_path, monkeypatch):
  if request.param == 'growing':
    monkeypatch.setattr(client_store, '_GROWTH_BYTES', 1)
  folder = None if request.param == 'temporary' else tmp_path / 'states'
  return ClientStore(folder, 50, FIRST)


def test_states_of_any_dtype_come_back_bit_for_bit(store):
  first = store.read(np.array([3, 3, 49]))
  assert_bits(first, jax.tree.map(lambda x: np.stack([x] * 3), FIRST))
  store.write(np.array([4, 1]), states([4, 1]))
  store.write(np.array([30, 4]), states([30, 4], salt=1))
  got = store.read(np.array([1, 4, 30, 4, 2]))
  want = jax.tree.map(
      lambda *x: np.concatenate(x), states([1]), states([4, 30, 4], 1),
      jax.tree.map(lambda x: x[None], FIRST))
  assert_bits(got, want)


def test_nobody_is_read_and_written_too(store):
  nobody = np.array([], int)
  store.write(nobody, states(nobody))
  assert_bits(store.read(nobody), jax.tree.map(
      lambda x: np.zeros((0, *x.shape), x.dtype), FIRST))


def test_agrees_with_a_dict_over_many_writes_and_checkpoints(store):
  rng, want = np.random.default_rng(0), {}
  for i in range(60):
    clients = rng.choice(50, 7, replace=False)
    new = states(clients, i)
    store.write(clients, new)
    for j, c in enumerate(clients):
      want[c] = jax.tree.map(lambda x, j=j: x[j], new)
    if i % 4 == 0:
      store.flush()
      store.adopt(store.table, i)
    # One for each that was seen, the first one, and at most those written
    # since the last checkpoint but one.
    assert store.num_records <= 1 + len(want) + 8 * 7
  for c in range(50):
    (got, expected) = store.read(np.array([c])), want.get(c, FIRST)
    assert_bits(got, jax.tree.map(lambda x: np.asarray(x)[None], expected))


def test_nothing_is_on_disk_before_the_first_state_is_written(tmp_path):
  folder = tmp_path / 'states'
  store = ClientStore(folder, 10 ** 6, FIRST)
  store.read(np.arange(100))
  store.flush()
  store.adopt(store.table, 3)
  assert not folder.exists()
  store.write(np.array([999_999]), states([5]))
  allocated = (folder / 'records.bin').stat().st_blocks * 512
  assert store.num_records == 2
  assert allocated < 2 * client_store._GROWTH_BYTES < (
      10 ** 6 * store.record_bytes)


def test_records_of_the_last_checkpoint_stay_whatever_is_written(tmp_path):
  """Another process finds, with a checkpoint's table, what was then."""
  store, tables = ClientStore(tmp_path, 20, FIRST), []
  everyone = np.arange(20)
  for i in range(5):
    half = everyone[i % 2::2]
    store.write(half, states(half, i))
    store.write(half, states(half, 10 + i))
    want, table = store.read(everyone), store.table
    store.flush()
    store.adopt(table, i)
    for salt in (20, 21):
      store.write(everyone, states(everyone, salt))
    other = ClientStore(tmp_path, 20, FIRST)
    other.adopt(table, i)
    assert_bits(other.read(everyone), want)
    # And goes on as this one would have.
    store, tables = other, [*tables, table]
  with pytest.raises(ValueError, match='round 4 or later.*of round 3'):
    ClientStore(tmp_path, 20, FIRST).adopt(tables[3], 3)


def test_the_records_of_the_last_checkpoint_but_one_stay_too(tmp_path):
  store, everyone, want = ClientStore(tmp_path, 20, FIRST), np.arange(20), {}
  for i in (3, 5, 8):
    store.write(everyone, states(everyone, i))
    want[i] = store.table, store.read(everyone)
    store.flush()
    store.adopt(store.table, i)
  store.write(everyone, states(everyone, 30))
  for i in (8, 5):
    other = ClientStore(tmp_path, 20, FIRST)
    other._write_meta = lambda: None  # Only looks.
    other.adopt(want[i][0], i)
    assert_bits(other.read(everyone), want[i][1])
  with pytest.raises(ValueError, match='round 5 or later.*of round 3'):
    ClientStore(tmp_path, 20, FIRST).adopt(want[3][0], 3)


def test_any_flipped_bit_of_a_state_is_noticed(store):
  clients = np.array([4, 1, 30])
  store.write(clients, states(clients))
  want, held = store.read(clients), store._records
  for record in [0, *store.table[clients]]:
    owner = dict(zip(store.table[clients], clients, strict=True)).get(record, 7)
    for place in range(8 * held.shape[1]):
      held[record, place // 8] ^= 1 << place % 8
      with pytest.raises(ValueError, match=f'client number {owner} is damaged'):
        store.read(np.array([1, 4, 30, 7]))
      held[record, place // 8] ^= 1 << place % 8
    page = held[record].copy()
    held[record] = 0
    with pytest.raises(ValueError, match=f'client number {owner} is damaged'):
      store.read(np.array([owner]))
    held[record] = page
  first, second = store.table[[4, 1]]
  held[first] = held[second]  # A good state, of somebody else.
  with pytest.raises(ValueError, match='client number 4 is damaged'):
    store.read(np.array([4]))
  assert_bits(store.read(clients[1:]), jax.tree.map(lambda x: x[1:], want))


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
  def full(*args):
    raise OSError(errno.ENOSPC, 'No space left on device')
  monkeypatch.setattr(os, 'posix_fallocate', full)
  with pytest.raises(OSError, match='No space left') as caught:
    ClientStore(tmp_path / 'a', 20, FIRST).write(np.arange(3), states(range(3)))
  assert caught.value.filename == str(tmp_path / 'a' / 'records.bin')


def test_files_of_another_run_and_none_at_all(tmp_path):
  store = ClientStore(tmp_path / 'a', 20, FIRST)
  store.write(np.arange(3), states(range(3)))
  with pytest.raises(ValueError, match="round 2 needs.*can't be read"):
    ClientStore(tmp_path / 'b', 20, FIRST).adopt(store.table, 2)
  for other in (ClientStore(tmp_path / 'a', 21, FIRST),
                ClientStore(tmp_path / 'a', 20, {**FIRST, 'w': np.zeros(6)})):
    with pytest.raises(ValueError, match='not those of this run'):
      other.adopt(store.table, 2)
  file = tmp_path / 'a' / 'records.bin'
  file.write_bytes(file.read_bytes()[:2 * store.record_bytes])
  with pytest.raises(ValueError, match='not those of this run'):
    ClientStore(tmp_path / 'a', 20, FIRST).adopt(store.table, 2)


def test_random_keys_are_refused():
  with pytest.raises(ValueError, match="'stored'.*random keys"):
    ClientStore(None, 2, {'key': jax.random.key(0)})

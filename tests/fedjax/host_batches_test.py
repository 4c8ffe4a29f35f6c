import numpy as np
import pytest

from fedjax_sim.fedjax import padded_batch, shuffle_repeat_batch


def rows(size, **options):
  """Of each batch which examples it holds."""
  examples = {'x': np.arange(size), 'y': 10 * np.arange(size)}
  batches = list(shuffle_repeat_batch(examples, **options))
  for batch in batches:
    np.testing.assert_array_equal(10 * batch['x'], batch['y'])
  return [batch['x'].tolist() for batch in batches]


def test_passes_run_into_each_other():
  assert rows(5, batch_size=3, num_epochs=2, skip_shuffle=True) == [
      [0, 1, 2], [3, 4, 0], [1, 2, 3], [4, 0, 1]]
  assert rows(2, batch_size=5, skip_shuffle=True) == [[0, 1, 0, 1, 0]]


@pytest.mark.parametrize('options, steps', [
    (dict(), 3), (dict(num_epochs=2), 5), (dict(drop_remainder=True), 2),
    (dict(num_epochs=2, num_steps=3), 3), (dict(num_epochs=1, num_steps=9), 3),
    (dict(num_epochs=None, num_steps=9), 9)])
def test_number_of_batches(options, steps):
  batches = rows(10, batch_size=4, seed=0, **options)
  assert len(batches) == steps
  assert all(len(batch) == 4 for batch in batches)


def test_every_pass_is_a_shuffle_of_its_own():
  stream = np.concatenate(rows(50, batch_size=10, num_epochs=3, seed=1))
  passes = stream.reshape(3, 50)
  np.testing.assert_array_equal(np.sort(passes), np.tile(np.arange(50), (3, 1)))
  assert len({tuple(p) for p in passes}) == 3
  again = np.concatenate(rows(50, batch_size=7, num_epochs=3, seed=1))
  np.testing.assert_array_equal(again[:150], stream)
  other = np.concatenate(rows(50, batch_size=10, num_epochs=3, seed=2))
  assert (other != stream).any()


def test_orders_are_shuffles_in_place_by_the_legacy_generator():
  random, order = np.random.RandomState(3), np.arange(6)  # noqa: NPY002
  want = []
  for _ in range(2):
    random.shuffle(order)
    want += order.tolist()
  got = np.concatenate(rows(6, batch_size=3, num_epochs=2, seed=3))
  np.testing.assert_array_equal(got, want)


def test_no_examples_make_no_batches():
  assert rows(0, batch_size=3, num_epochs=None, num_steps=4, seed=0) == []
  assert list(padded_batch({'x': np.zeros(0)}, batch_size=3)) == []


def test_padded_batches_hold_every_example_once():
  x = np.arange(1, 8, dtype=np.int16).reshape(7, 1)
  first, last = padded_batch({'x': x}, batch_size=4)
  assert first['x'].ravel().tolist() == [1, 2, 3, 4] and first['__mask__'].all()
  assert last['x'].ravel().tolist() == [5, 6, 7, 0]
  assert last['__mask__'].tolist() == [True, True, True, False]
  assert last['x'].dtype == np.int16 and last['x'].shape == (4, 1)


@pytest.mark.parametrize('options, message', [
    (dict(batch_size=0, seed=0), 'batch_size .* got 0'),
    (dict(batch_size=1), 'seed .* got None'),
    (dict(batch_size=1, seed=0, num_epochs=0), 'num_epochs .* got 0'),
    (dict(batch_size=1, seed=0, num_epochs=None), 'num_epochs or num_steps'),
])
def test_bad_arguments(options, message):
  with pytest.raises(ValueError, match=message):
    shuffle_repeat_batch({'x': np.ones(3)}, **options)

"""Augmentation: each step against NumPy, and the laws of what is drawn."""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import models
from fedjax_sim.clients import batches, gradients
from fedjax_sim.models import augment

KEY = jax.random.key
crops = jax.jit(augment.cifar_crops, static_argnames='train')


def images(rows=4, height=32, width=32, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (rows, height, width, 3), np.uint8)


def draws(count):
  keys = jax.vmap(lambda i: jax.random.fold_in(KEY(7), i))(jnp.arange(count))
  return jax.device_get(jax.jit(jax.vmap(
      lambda key: augment.draw(key, 32, 36)))(keys))


def slow_white(x):
  deviation = max(x.std(), 1 / np.sqrt(x.size))
  return (x - x.mean()) / deviation


def slow(image, drawn):
  """The equations of the module, in float64."""
  row, column = int(drawn.row), int(drawn.column)
  x = np.float64(image[row:row + 24, column:column + 24])
  if drawn.mirrored:
    x = np.stack([x[:, 23 - j] for j in range(24)], axis=1)
  x += float(drawn.brightness)
  for c in range(3):
    mean = x[..., c].mean()
    x[..., c] = (x[..., c] - mean) * float(drawn.contrast) + mean
  return x


@pytest.mark.parametrize('mirrored', [False, True])
@pytest.mark.parametrize('row, column', [(0, 0), (8, 8), (3, 5)])
def test_distortion_as_drawn(mirrored, row, column):
  drawn = augment.Draws(
      jnp.int32(row), jnp.int32(column), jnp.array(mirrored),
      jnp.float32(-41.5), jnp.float32(1.3))
  got = augment.distorted(images()[0], drawn)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, slow(images()[0], drawn), atol=1e-3)


def test_training_is_each_row_s_draws_then_whitening():
  x = images()
  got = crops(x, key=KEY(3), train=True)
  assert got.shape == (4, 24, 24, 3)
  for i, row in enumerate(x):
    drawn = jax.device_get(
        augment.draw(jax.random.fold_in(KEY(3), i), 32, 32))
    np.testing.assert_allclose(
        got[i], slow_white(slow(row, drawn)), atol=1e-4)


def test_evaluation_is_the_whitened_centre_and_draws_nothing():
  x = images(height=32, width=29)
  got = crops(x, key=KEY(3), train=False)
  for i in range(len(x)):
    np.testing.assert_allclose(
        got[i], slow_white(np.float64(x[i, 4:28, 2:26])), atol=1e-5)
  np.testing.assert_array_equal(crops(x, key=KEY(4), train=False), got)
  np.testing.assert_array_equal(
      crops(x, key=None, train=False), got)


def test_whitening_of_one_colour_and_of_almost_one():
  np.testing.assert_array_equal(
      augment.whitened(jnp.full((24, 24, 3), 7.0)), np.zeros((24, 24, 3)))
  # Less than the least deviation: 1 / sqrt(1728) = 0.024.
  x = np.full((24, 24, 3), 7.0)
  x[0, 0, 0] = 7.5
  np.testing.assert_allclose(
      augment.whitened(jnp.float32(x)), (x - x.mean()) * np.sqrt(1728),
      atol=1e-4)


def test_brightness_is_taken_out_and_contrast_is_not():
  drawn = jax.device_get(augment.draw(KEY(0), 32, 32))
  # Colours of unequal means, between which contrast makes a difference.
  image = np.uint8(images()[0] // 4 + np.array([0, 60, 150]))
  white = lambda **changes: augment.whitened(
      augment.distorted(image, drawn._replace(**changes)))
  np.testing.assert_allclose(
      white(brightness=np.float32(60)), white(brightness=np.float32(-60)),
      atol=1e-4)
  low, high = (white(contrast=np.float32(c)) for c in (0.3, 1.7))
  assert np.abs(low - high).max() > 0.5


def test_a_row_does_not_depend_on_the_others():
  x = images(6)
  whole = crops(x, key=KEY(3), train=True)
  others = np.concatenate([x[:2], images(1, seed=9)])
  got = crops(others, key=KEY(3), train=True)
  np.testing.assert_allclose(got[:2], whole[:2], atol=1e-5)
  assert np.abs(got[2] - whole[2]).max() > 0.1
  # The same image in two rows is drawn for twice.
  twice = crops(x[[0, 0]], key=KEY(3), train=True)
  assert np.abs(twice[0] - twice[1]).max() > 0.1


def test_lanes_draw_as_alone():
  x, keys = np.stack([images(seed=1), images(seed=2)]), jax.random.split(KEY(0))
  both = jax.jit(jax.vmap(
      lambda x, key: augment.cifar_crops(x, key=key, train=True)))(x, keys)
  for lane in range(2):
    np.testing.assert_allclose(
        both[lane], crops(x[lane], key=keys[lane], train=True), atol=1e-4)


def test_micro_batches_do_not_change_the_draws():
  model = models.from_functions(
      lambda key, x: {'w': jnp.ones((24 * 24 * 3, 2)) * 1e-3},
      lambda params, x: x.reshape(len(x), -1) @ params['w'],
      preprocess=augment.cifar_crops)
  rows = jnp.arange(5)
  batch = batches.Batch(
      rows, rows < 5, KEY(3), jnp.int32(0),
      {'x': jnp.asarray(images(5)), 'y': rows % 2})
  variables = model.init(KEY(0), images(1))

  @functools.partial(jax.jit, static_argnums=0)
  def run(micro, key=batch.key):
    return gradients.large_batch_gradient(
        model, variables, batch._replace(key=key), micro)[0]['w']

  np.testing.assert_allclose(run(2), run(5), rtol=1e-4, atol=1e-5)
  assert np.abs(run(5) - run(5, KEY(4))).max() > 1e-2


def is_uniform(values, size):
  """Whether counts of 0 .. size - 1 are those of equal chances.

  Chi squared has mean size - 1 and variance 2 (size - 1); six deviations.
  """
  counts = np.bincount(values, minlength=size)
  if len(counts) > size:
    return False
  expected = len(values) / size
  chi = ((counts - expected) ** 2 / expected).sum()
  return chi < size - 1 + 6 * np.sqrt(2 * (size - 1))


def test_places_are_uniform():
  drawn = draws(5000)
  assert is_uniform(drawn.row, 9)
  assert is_uniform(drawn.column, 13)
  assert not is_uniform(drawn.row % 8, 9)  # One place too few.
  assert not is_uniform(drawn.column, 12)  # One too many.


def moments_fit(values, low, high):
  """Whether mean and variance are those of U[low, high), to six deviations.

  Of n values in units of the width: the mean's deviation is 1 / sqrt(12 n),
  and that of the mean square distance from 1/2 is 1 / sqrt(180 n).
  """
  unit = (np.float64(values) - low) / (high - low) - 0.5
  root = np.sqrt(len(unit))
  return bool(
      abs(unit.mean()) * np.sqrt(12) * root < 6
      and abs((unit ** 2).mean() - 1 / 12) * np.sqrt(180) * root < 6
      and np.abs(unit).max() <= 0.5)


def test_numbers_are_uniform_in_their_ranges():
  drawn = draws(5000)
  assert moments_fit(drawn.mirrored + 0.0, 0, 1) is False  # It is a coin.
  assert abs(drawn.mirrored.mean() - 0.5) < 6 * 0.5 / np.sqrt(5000)
  assert moments_fit(drawn.brightness, -63, 63)
  assert moments_fit(drawn.contrast, 0.2, 1.8)
  for scale in (0.9, 1.1):
    assert not moments_fit(scale * drawn.brightness, -63, 63)
    assert not moments_fit(1 + scale * (drawn.contrast - 1), 0.2, 1.8)


def test_draws_of_one_example_do_not_go_together():
  drawn = draws(5000)
  table = np.corrcoef([np.float64(values) for values in drawn])
  assert np.abs(table - np.eye(5)).max() < 6 / np.sqrt(5000)


@pytest.mark.parametrize('shape', [(2, 32, 23, 3), (2, 32, 32), (2, 784)])
def test_images_that_are_too_small_are_an_error(shape):
  with pytest.raises(ValueError, match='at least 24, got'):
    augment.cifar_crops(np.zeros(shape, np.uint8), key=KEY(0), train=False)


def test_training_needs_a_key():
  with pytest.raises(ValueError, match='key must be given'):
    augment.cifar_crops(images(), key=None, train=True)

"""Pooling, against flax's by windows."""

import functools

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from fedjax_sim.models import pooling

# name: shape, window, strides, padding
CASES = {
    'mnist': ((2, 8, 6, 3), (2, 2), (2, 2), 'VALID'),
    'remainder': ((2, 7, 5, 3), (2, 2), (2, 2), 'VALID'),
    'remainder_same': ((2, 7, 5, 3), (2, 2), (2, 2), 'SAME'),
    'same_lower': ((2, 7, 5, 3), (2, 2), (2, 2), 'SAME_LOWER'),
    'oblong': ((2, 6, 9, 3), (2, 3), (2, 3), 'VALID'),
    'overlapping': ((2, 7, 8, 3), (3, 3), (2, 2), 'VALID'),
    'overlapping_same': ((2, 7, 8, 3), (3, 3), (2, 2), 'SAME'),
    'two_windows': ((2, 5, 5, 3), (3, 3), (2, 2), 'VALID'),
    'no_strides': ((2, 5, 6, 3), (2, 3), None, 'VALID'),
    'gaps': ((2, 8, 9, 3), (2, 2), (3, 4), 'VALID'),
    'mixed': ((2, 8, 9, 3), (2, 3), (2, 1), 'SAME'),
    'explicit': ((2, 6, 5, 3), (3, 2), (2, 2), ((1, 2), (0, 1))),
    'global': ((2, 5, 6, 3), (5, 6), None, 'VALID'),
    'one_dimension': ((2, 9, 3), (3,), (3,), 'SAME'),
    'three_dimensions': ((2, 4, 5, 4, 3), (2, 2, 2), (2, 1, 2), 'SAME'),
    'no_batch': ((8, 6, 3), (2, 2), (2, 2), 'VALID'),
    'two_batch_axes': ((2, 3, 6, 4, 3), (2, 2), (2, 2), 'VALID'),
}


def distinct(shape):
  size = np.prod(shape)
  rng = np.random.default_rng(0)
  return np.float32(rng.permutation(size).reshape(shape) - size // 2)


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(pool, x):
  y, pull = jax.vjp(pool, x)
  rng = np.random.default_rng(1)
  return y, pull(np.float32(rng.integers(1, 9, y.shape)))[0]


@pytest.mark.parametrize('name', CASES)
def test_max_pool_equals_flax(name):
  shape, *arguments = CASES[name]
  ours, expected = (
      value_and_gradient(lambda x, f=f: f(x, *arguments), distinct(shape))
      for f in (pooling.max_pool, nn.max_pool))
  for a, b in zip(ours, expected, strict=True):
    np.testing.assert_array_equal(a, b)
  assert np.count_nonzero(ours[1])


@pytest.mark.parametrize('name', CASES)
def test_avg_pool_equals_flax(name):
  shape, *arguments = CASES[name]

  def both_counts(pool):
    return lambda x: jnp.stack([
        pool(x, *arguments, count_include_pad=include)
        for include in (True, False)])

  ours, expected = (
      value_and_gradient(both_counts(pool), distinct(shape))
      for pool in (pooling.avg_pool, flax_avg_pool))
  for a, b in zip(ours, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-5)
  if name == 'overlapping_same':
    assert np.any(ours[0][0] != ours[0][1])


def flax_avg_pool(x, window, *args, **kwargs):
  # Flax's counts of what is not padding take one batch axis, and promote.
  batch = x.shape[:-1 - len(window)]
  x = x.reshape(-1, *x.shape[len(batch):])
  with jax.numpy_rank_promotion('allow'):
    y = nn.avg_pool(x, window, *args, **kwargs)
  return y.reshape(*batch, *y.shape[1:])


@pytest.mark.parametrize('name', ['mnist', 'overlapping', 'overlapping_same'])
def test_of_equal_entries_the_first_gets_the_gradient(name):
  shape, *arguments = CASES[name]
  rng = np.random.default_rng(2)
  x = np.float32(rng.integers(0, 2, shape))
  ours, expected = (
      value_and_gradient(lambda x, f=f: f(x, *arguments), x)
      for f in (pooling.max_pool, nn.max_pool))
  for a, b in zip(ours, expected, strict=True):
    np.testing.assert_array_equal(a, b)
  # The expectation itself, for one window of four equal entries.
  first = jax.grad(lambda x: pooling.max_pool(x, (2, 2), (2, 2)).sum())(
      jnp.zeros((1, 2, 2, 1)))
  np.testing.assert_array_equal(first[0, :, :, 0], [[1, 0], [0, 0]])


@pytest.mark.parametrize('place', range(4))
def test_nan_wins(place):
  x = jnp.zeros(4).at[place].set(jnp.nan).reshape(1, 2, 2, 1)
  assert jnp.isnan(pooling.max_pool(x, (2, 2), (2, 2))).all()


@pytest.mark.parametrize('name', ['mnist', 'overlapping_same'])
def test_vmap_equals_a_loop(name):
  shape, *arguments = CASES[name]
  x = distinct((3, *shape))
  both = functools.partial(
      value_and_gradient, lambda x: pooling.max_pool(x, *arguments))
  ours = jax.jit(jax.vmap(both))(x)
  for i in range(3):
    for a, b in zip(ours, both(x[i]), strict=True):
      np.testing.assert_array_equal(np.asarray(a)[i], b)


def test_a_window_larger_than_the_input_gives_nothing():
  x = jnp.zeros((2, 3, 3, 1))
  assert pooling.max_pool(x, (4, 2), (2, 2)).shape == (2, 0, 1, 1)
  assert pooling.avg_pool(x, (4, 4), (4, 4)).shape == (2, 0, 0, 1)


@pytest.mark.parametrize('window, strides', [
    ((2, 2, 2, 2), (2, 2, 2, 2)), ((2, 2), (2,))])
def test_misfitting_windows_are_named(window, strides):
  with pytest.raises(ValueError, match='window_shape'):
    pooling.max_pool(jnp.zeros((2, 4, 4, 1)), window, strides)

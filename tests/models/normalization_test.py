"""Local response normalization, against loops in float64."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim.models import normalization


def slow(x, radius=4, bias=1.0, alpha=1e-3 / 9):
  x = np.float64(x)
  y = np.empty_like(x)
  for place in np.ndindex(x.shape):
    *where, i = place
    near = x[tuple(where)][max(i - radius, 0):i + radius + 1]
    y[place] = x[place] / (bias + alpha * (near ** 2).sum()) ** 0.75
  return y


def large(*shape):
  # So large that the sums, times alpha, are not small beside the bias.
  return np.float32(np.random.default_rng(0).normal(size=shape) * 50)


@pytest.mark.parametrize('shape', [(2, 3, 2, 12), (3, 5), (1, 1)])
def test_values(shape):
  x = large(*shape)
  got = jax.jit(normalization.local_response_norm)(x)
  np.testing.assert_allclose(got, slow(x), rtol=1e-5)
  assert np.all(np.abs(got) < np.abs(x))


def test_options():
  x = large(2, 7)
  options = dict(radius=1, bias=2.0, alpha=0.01)
  np.testing.assert_allclose(
      normalization.local_response_norm(x, **options), slow(x, **options),
      rtol=1e-5)


def test_gradient_is_that_of_differences():
  x = large(2, 12)
  weights = np.random.default_rng(1).normal(size=x.shape)
  got = jax.grad(lambda x: jnp.sum(
      normalization.local_response_norm(x) * np.float32(weights)))(x)
  step = 1e-4
  for place in np.ndindex(x.shape):
    up, down = np.float64(x), np.float64(x)
    up[place] += step
    down[place] -= step
    want = np.sum((slow(up) - slow(down)) * weights) / (2 * step)
    np.testing.assert_allclose(got[place], want, rtol=1e-4, atol=1e-6)


def test_zeros_have_a_gradient():
  got = jax.grad(lambda x: normalization.local_response_norm(x).sum())(
      jnp.zeros((1, 5)))
  np.testing.assert_array_equal(got, np.ones((1, 5)))

"""Minimal filtering: exact in exact numbers, and close in float32."""

import functools

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from fedjax_sim.models import convolution, winograd
from tests.models.convolution_test import LAST

# name: sizes, kernel, c_in, c_out, strides, padding
CASES = {
    'mnist_second': ((14, 14), (5, 5), 32, 64, (1, 1), 'SAME'),
    'valid': ((11, 6), (3, 3), 32, 64, (1, 1), 'VALID'),
    'four_rows': ((10, 5), (4, 2), 33, 64, (1, 1), 'SAME_LOWER'),
    'column_strides': ((9, 8), (3, 3), 32, 65, (1, 2), 'SAME'),
    'explicit': ((9, 7), (3, 3), 32, 64, (1, 1), ((3, 0), (0, 2))),
    'cropped': ((12, 7), (3, 3), 32, 64, (1, 1), ((-1, -2), (1, 1))),
    'one_dimension': ((13,), (5,), 40, 64, (1,), 'SAME'),
    'three_dimensions': ((8, 4, 3), (3, 2, 2), 32, 64, (1, 1, 1), 'SAME'),
}


def problem(name):
  sizes, kernel, c_in, c_out, strides, padding = CASES[name]
  rng = np.random.default_rng(0)
  x = rng.normal(size=(3, *sizes, c_in)).astype(np.float32)
  k = rng.normal(size=(*kernel, c_in, c_out)).astype(np.float32)
  return x, k, dict(window_strides=strides, padding=padding,
                    dimension_numbers=LAST[len(sizes)])


def num_products(x, k, **arguments):
  jaxpr = jax.make_jaxpr(
      functools.partial(convolution.conv_general_dilated, **arguments))(x, k)
  return str(jaxpr).count('dot_general[')


@pytest.mark.parametrize('taps', [2, 3, 4, 5])
@pytest.mark.parametrize('tile', [1, 2, 3, 4])
def test_transform_is_a_sliding_sum(tile, taps):
  rng = np.random.default_rng(0)
  x, w = rng.normal(size=tile + taps - 1), rng.normal(size=taps)
  change = winograd.transform(tile, taps)
  got = change.outputs @ ((change.inputs @ x) * (change.taps @ w))
  np.testing.assert_allclose(got, np.correlate(x, w, 'valid'), rtol=1e-10)


def test_combine_is_a_matrix_product():
  matrix = np.array([[1, 0, -1], [0.5, -2, 0]])
  xs = np.random.default_rng(0).normal(size=(3, 4))
  np.testing.assert_allclose(
      winograd.combine(matrix, list(jnp.float32(xs))), matrix @ xs, rtol=1e-6)


@pytest.mark.parametrize('name', CASES)
def test_value_and_gradients_are_close_to_those_in_float64(name):
  """Errors at most 2e-5 of the largest value, in all three."""
  x, k, arguments = problem(name)
  assert num_products(x, k, **arguments) > 1
  def value_and_gradients(convolve, x, k):
    y, pull = jax.vjp(functools.partial(convolve, **arguments), x, k)
    slopes = np.random.default_rng(1).normal(size=y.shape)
    return y, *pull(slopes.astype(y.dtype))

  got = value_and_gradients(convolution.conv_general_dilated, x, k)
  with jax.enable_x64(True):
    want = jax.device_get(value_and_gradients(
        lax.conv_general_dilated, np.float64(x), np.float64(k)))
  for a, b in zip(got, want, strict=True):
    assert a.shape == b.shape
    assert np.abs(a - b).max() < 2e-5 * np.abs(b).max()


def test_vmap_over_kernels():
  x, k, arguments = problem('valid')
  convolve = functools.partial(convolution.conv_general_dilated, **arguments)
  kernels = np.stack([k, 2 * k, -k])
  got = jax.vmap(convolve, (None, 0))(x, kernels)
  want = convolve(x, k)
  np.testing.assert_allclose(got[1], 2 * want, atol=1e-3)
  np.testing.assert_allclose(got[2], -want, atol=1e-3)


def test_fewer_products_where_they_are_many():
  x, k, arguments = problem('mnist_second')
  # 3 + 5 - 1 for three rows; straight there is one, five rows wide.
  assert num_products(x, k, **arguments) == 7
  assert num_products(x, k, **arguments, precision='highest') == 1
  assert num_products(jnp.bfloat16(x), jnp.bfloat16(k), **arguments) == 1
  few = x[..., :31], k[:, :, :31]
  assert num_products(*few, **arguments) == 1
  assert num_products(x, k[..., :63], **arguments) == 1
  # A single row, and a tile of three would be computed for it.
  assert num_products(x[:, :1], k, **arguments) == 1


def test_only_on_a_cpu(monkeypatch):
  x, k, arguments = problem('mnist_second')
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert num_products(x, k, **arguments) == 1

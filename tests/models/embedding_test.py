"""Rows of a table, and the gradient of what is made of them."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim.core import compilation
from fedjax_sim.models import embedding

TABLE = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
NUMBERS = np.array([[0, 4, 4, -1], [2, 4, -5, 0]], np.int32)


@pytest.mark.parametrize('platform', ['cpu', 'gpu', 'tpu'])
def test_rows_and_their_gradient(platform):
  factors = np.random.default_rng(1).normal(size=(2, 4, 3)).astype(np.float32)

  def value(table):
    x = embedding.rows(table, NUMBERS)
    return jnp.sum(x * factors), x

  with compilation.target(platform):
    gradient, x = jax.grad(value, has_aux=True)(TABLE)
  np.testing.assert_array_equal(x, TABLE[NUMBERS])
  want = np.zeros_like(TABLE)
  np.add.at(want, NUMBERS, factors)
  np.testing.assert_allclose(gradient, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('platform', ['cpu', 'gpu'])
def test_a_number_that_is_none_gives_nan(platform):
  with compilation.target(platform):
    x = embedding.rows(TABLE, np.array([5, -6, 1], np.int32))
  np.testing.assert_array_equal(np.isnan(x).any(axis=1), [True, True, False])


@pytest.mark.parametrize('platform, scatters', [
    ('cpu', True), ('gpu', False), ('tpu', False)])
def test_only_a_cpu_scatters(platform, scatters):
  gradient = jax.vmap(jax.grad(
      lambda table, numbers: jnp.sum(embedding.rows(table, numbers) ** 2)))
  with compilation.target(platform):
    jaxpr = str(jax.make_jaxpr(gradient)(TABLE[None], NUMBERS[None]))
  assert ('scatter' in jaxpr) == scatters

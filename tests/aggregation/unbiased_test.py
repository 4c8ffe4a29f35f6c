"""What is said to be unbiased is, and its neighbours are told from it."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation
from tests.aggregation import sending

X = np.random.default_rng(0).normal(0.3, 1.0, 200)

UNBIASED = {
    'subsample': lambda: aggregation.subsample(0.3),
    'quantize 1': lambda: aggregation.quantize(1),
    'quantize 3': lambda: aggregation.quantize(3, over='vector'),
    'random_k': lambda: aggregation.random_k(0.3),
    'sketched': lambda: aggregation.chain(
        aggregation.rotate(), aggregation.subsample(0.5),
        aggregation.quantize(2)),
}
BIASED = {
    'nearest': lambda: aggregation.quantize(3, stochastic=False),
    'clipped': lambda: aggregation.chain(
        aggregation.clip(10.0), aggregation.subsample(0.9)),
}


def off(part, factor=1.03):
  """A part whose scale is off by a little."""
  scale = aggregation.transform('scale', client=lambda m, s, memory, *_: (
      m._replace(update=jax.tree.map(lambda u: factor * u, m.update)), memory))
  return aggregation.chain(scale, part)


@pytest.mark.parametrize('name', UNBIASED)
def test_the_mean_is_the_update_and_three_percent_off_is_not(name):
  assert not sending.is_biased(UNBIASED[name](), X)
  assert sending.is_biased(off(UNBIASED[name]()), X)


@pytest.mark.parametrize('name', BIASED)
def test_what_is_biased_is_found(name):
  assert sending.is_biased(BIASED[name](), X)


def variances():
  """(part, the variance of each coordinate by its source)"""
  step = (X.max() - X.min()) / 7
  rest = (X - X.min()) % step
  yield aggregation.quantize(3), rest * (step - rest)
  yield aggregation.subsample(0.3), 0.7 / 0.3 * X ** 2


@pytest.mark.parametrize('part, want', list(variances()))
def test_variances_are_those_of_the_formulas(part, want):
  got = sending.draws(part, jnp.float32(X), 4000).var(0)
  assert got.sum() == pytest.approx(want.sum(), rel=0.02)
  np.testing.assert_allclose(got, want, atol=0.15 * want.max())

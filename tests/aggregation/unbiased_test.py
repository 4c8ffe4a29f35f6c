"""What is said to be unbiased is, and its neighbours are told from it."""

import functools

import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation
from tests.aggregation import sending

X = np.float64(np.float32(np.random.default_rng(0).normal(0.3, 1.0, 200)))

UNBIASED = {
    'subsample': lambda: aggregation.subsample(0.3),
    'quantize 1': lambda: aggregation.quantize(1),
    'quantize 3': lambda: aggregation.quantize(3, over='vector'),
    'random_k': lambda: aggregation.random_k(0.3),
    'sketched': lambda: aggregation.chain(
        aggregation.rotate(), aggregation.subsample(0.5),
        aggregation.quantize(2)),
    'qsgd 1': lambda: aggregation.qsgd(1),
    'qsgd 5': lambda: aggregation.qsgd(5, over='vector'),
    'terngrad': lambda: aggregation.terngrad(None),
    'cast': lambda: aggregation.cast(stochastic=True),
    # Near enough: with Hadamard's rotations it is not exact.
    'drive': aggregation.drive,
    'eden 3': lambda: aggregation.eden(3),
}
BIASED = {
    'nearest': lambda: aggregation.quantize(3, stochastic=False),
    'clipped': lambda: aggregation.terngrad(1.0),
    'signs': lambda: aggregation.sign_sgd(scaled=True),
    'cast to the nearest': aggregation.cast,
    'drive of least error': lambda: aggregation.drive(unbiased=False),
    'eden of least error': lambda: aggregation.eden(2, unbiased=False),
}


@functools.cache
def drawn(name):
  return sending.draws((UNBIASED | BIASED)[name](), jnp.float32(X), 4000)


@pytest.mark.parametrize('name', UNBIASED)
def test_the_mean_is_the_update_and_five_percent_off_is_not(name):
  assert not sending.is_biased(drawn(name), X)
  assert sending.is_biased(1.05 * drawn(name), X)
  assert sending.is_biased(0.95 * drawn(name), X)


@pytest.mark.parametrize('name', BIASED)
def test_what_is_biased_is_found(name):
  assert sending.is_biased(drawn(name), X)


def parts_of(step, x=X):
  """(x - the level below)(the level above - x), levels being `step` apart."""
  rest = x % step
  return rest * (step - rest)


@pytest.mark.parametrize('name, want', [
    ('subsample', 0.7 / 0.3 * X ** 2),
    ('quantize 1', (X - X.min()) * (X.max() - X)),
    ('quantize 3', parts_of((X.max() - X.min()) / 7, X - X.min())),
    ('qsgd 1', np.abs(X) * (np.linalg.norm(X) - np.abs(X))),
    ('qsgd 5', parts_of(np.linalg.norm(X) / 5, np.abs(X))),
    ('terngrad', np.abs(X) * (np.abs(X).max() - np.abs(X))),
    # A bfloat16 has eight digits in base two.
    ('cast', parts_of(2.0 ** (np.floor(np.log2(np.abs(X))) - 7), np.abs(X)))])
def test_variances_are_those_of_the_formulas(name, want):
  got = drawn(name).var(0)
  assert got.sum() == pytest.approx(want.sum(), rel=0.02)
  np.testing.assert_allclose(got, want, atol=0.25 * want.max())
  if name.startswith('qsgd'):  # Lemma 3.1 of the paper.
    levels = int(name[-1])
    bound = min(len(X) / levels ** 2, np.sqrt(len(X)) / levels)
    assert got.sum() < bound * (X @ X)

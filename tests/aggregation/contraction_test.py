"""What error feedback takes: contractions, and nothing known to be none."""

import itertools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.aggregation import (
    drive,
    ef21,
    error_feedback,
    on,
    qsgd,
    quantize,
    random_k,
    rotate,
    sign_sgd,
    subsample,
    terngrad,
    top_k,
)
from fedjax_sim.aggregation.encodings import Kind
from tests.aggregation import sending

RNG = np.random.default_rng(0)
N = 64
# One large value; two ends around zeros, worst for quantize; equal values,
# worst for qsgd; one of 1 among values of 1/4, for terngrad; normal ones.
VECTORS = {
    'one': np.eye(N)[0],
    'ends': np.eye(N)[0] - np.eye(N)[1],
    'equal': np.ones(N),
    'quarters': np.array([1] + [-0.25, 0.25] * 31 + [-0.25]),
    'normal': RNG.normal(size=N),
}


def error(part, x):
  """E |C(x) - x|^2 / |x|^2, over draws."""
  drawn = sending.draws(part, jnp.float32(x), 400)
  return np.mean(np.sum((drawn - x) ** 2, -1)) / np.sum(x ** 2)


def build(part, n=N):
  """What a simulation does first."""
  message = sending.message_of({'w': jnp.zeros(n), 'b': jnp.zeros(2)})
  jax.eval_shape(lambda: part.init(message, 1, sending.KEYS.round))


CONTRACTIONS = {
    'top_k': lambda: top_k(0.1),
    'random_k': lambda: random_k(0.1, unbiased=False),
    'most': lambda: random_k(0.7),
    'subsample': lambda: subsample(0.7),
    'signs': lambda: sign_sgd(scaled=True),
    'drive': lambda: drive(unbiased=False),
    'eden': lambda: aggregation.eden(2, unbiased=False),
    'cast': aggregation.cast,
    # 62 < 2 * 7^2, and 64 < 4 * 5^2.
    'quantize': lambda: quantize(3),
    'nearest': lambda: quantize(3, stochastic=False),
    'qsgd': lambda: qsgd(5),
}


@pytest.mark.parametrize('name', CONTRACTIONS)
def test_what_is_taken_loses_less_than_there_is(name):
  part = CONTRACTIONS[name]()
  build(error_feedback(part))
  errors = [error(part, x) for x in VECTORS.values()]
  assert max(errors) < 1, dict(zip(VECTORS, errors, strict=True))


REFUSED = {
    'random_k': (lambda: random_k(0.5), 'normal', 'with unbiased=False'),
    'one by number': (lambda: random_k(k=32), 'normal', 'with unbiased=False'),
    'subsample': (lambda: subsample(0.1), 'normal', 'a fraction above 0.5'),
    'signs': (lambda: sign_sgd(), 'one', 'with scaled=True'),
    # 62 >= 2 * 3^2, and 64 >= 4 * 4^2.
    'quantize': (lambda: quantize(2), 'ends',
                 'for 64 values with bits=3 or more'),
    'nearest': (lambda: quantize(2, stochastic=False), 'ends', 'bits=3'),
    'qsgd': (lambda: qsgd(4), 'equal', 'for 64 values with levels=5 or more'),
    'terngrad': (lambda: terngrad(None), 'quarters', 'for at most 8 values'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_is_refused_loses_all_of_some_vector(name):
  make, vector, cure = REFUSED[name]
  assert error(make(), VECTORS[vector]) > 0.95  # 1, but for the draws.
  with pytest.raises(ValueError, match=f'.*_.*must be given.*{cure}'):
    build(error_feedback(make()))
  with pytest.raises(ValueError, match=f'ef21 must be given.*{cure}'):
    build(ef21(make()))


@pytest.mark.parametrize('make', [
    lambda: random_k(0.01), lambda: subsample(0.5), sign_sgd])
def test_what_holds_of_every_update_is_told_at_once(make):
  for wrap, around in itertools.product(
      (error_feedback, ef21), (lambda x: x, lambda x: on('w', x))):
    with pytest.raises(ValueError, match=f'{wrap.__name__} must be given'):
      wrap(around(make()))


def test_the_number_of_values_counts_where_an_update_is_coded_as_it_is():
  build(error_feedback(quantize(2)), n=19)
  build(error_feedback(on('b', quantize(2))))
  with pytest.raises(ValueError, match="'quantize'"):
    build(error_feedback(on('w', quantize(2))))
  build(error_feedback(qsgd(4)), n=63)
  with pytest.raises(ValueError, match='for 65 values'):
    build(error_feedback(qsgd(4, over='vector')), n=63)
  build(error_feedback(terngrad(None)), n=8)
  for first in (rotate(), top_k(0.1)):
    build(error_feedback(first, quantize(2)))


def test_a_part_of_ones_own_says_it():
  zero = aggregation.transform(
      'zero', encodes=(Kind.CODES,), lacks='never')
  with pytest.raises(ValueError, match="'zero' does so never"):
    error_feedback(zero)


def test_an_order_of_values_needs_all_of_them():
  for part in (top_k(0.1), error_feedback(top_k(0.1), quantize(4)),
               on('w', random_k(0.1)),
               aggregation.chain(rotate(), subsample(0.1))):
    for reduce in (aggregation.median(), aggregation.buffered(
        aggregation.clip(1.0), aggregation.median())):
      with pytest.raises(ValueError, match='reduce must not be .* beside'):
        aggregation.aggregator(part, reduce=reduce)
    for reduce in (aggregation.weighted_mean(), aggregation.majority_vote()):
      aggregation.aggregator(part, reduce=reduce)
  aggregation.aggregator(quantize(4), reduce=aggregation.median())

"""Rounding between the least and the greatest value."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.core import costs
from tests.aggregation import sending

RNG = np.random.default_rng(0)
UPDATE = {'a': jnp.float32(RNG.normal(size=(30, 5))),
          'b': jnp.float32(RNG.normal(size=20) * 0.01),
          'empty': jnp.zeros((0, 2)), 'whole': jnp.arange(3)}


@pytest.mark.parametrize('bits', [1, 3, 8, 16])
@pytest.mark.parametrize('over', ['leaf', 'vector'])
def test_values_are_levels_next_to_them(bits, over):
  sent = sending.send(aggregation.quantize(bits, over=over), UPDATE)
  whole = np.concatenate([UPDATE['a'].ravel(), UPDATE['b']])
  for name in ('a', 'b'):
    of = np.asarray(UPDATE[name], np.float64) if over == 'leaf' else whole
    levels = np.linspace(of.min(), of.max(), 2 ** bits)
    got = np.asarray(sent.update[name], np.float64)
    distance = np.abs(got[..., None] - levels).min(-1)
    assert distance.max() < 1e-6 * np.abs(of).max()
    step = levels[1] - levels[0]
    assert np.abs(got - UPDATE[name]).max() < 1.001 * step
  np.testing.assert_array_equal(sent.update['whole'], UPDATE['whole'])
  ranges = 2 if over == 'leaf' else 1
  assert costs.total(sent.cost) == 170 * bits + ranges * 64 + 3 * 32


def test_nearest_level():
  got = sending.send(aggregation.quantize(2, stochastic=False), {
      'a': jnp.array([0.0, 0.4, 0.6, 1.4, 2.6, 3.0])}).update['a']
  np.testing.assert_array_equal(got, [0, 0, 1, 1, 3, 3])


def test_the_range_is_of_what_is_sent():
  """Values left out are zero, and outside of the range of the others."""
  update = {'a': jnp.array([5.0, 6.0, 0.0, 5.4, 0.0])}
  mask = {'a': update['a'] > 0}
  sent = sending.send(aggregation.quantize(1), update, sent=mask)
  got = np.asarray(sent.update['a'])
  assert set(got[[0, 1, 3]]) <= {5, 6} and not got[[2, 4]].any()
  assert costs.total(sent.cost) == 3 + 64
  nothing = sending.send(aggregation.quantize(1), {'a': jnp.zeros(3)},
                         sent={'a': jnp.zeros(3, bool)})
  np.testing.assert_array_equal(nothing.update['a'], np.zeros(3))
  assert costs.total(nothing.cost) == 64


def test_rounding_differs_from_client_to_client_and_leaf_to_leaf():
  same = {'a': UPDATE['a'], 'b': UPDATE['a']}
  one = sending.send(aggregation.quantize(4), same).update
  other = sending.send(aggregation.quantize(4), same, sending.KEYS._replace(
      client=jax.random.key(3))).update
  assert (one['a'] != one['b']).any() and (one['a'] != other['a']).any()


@pytest.mark.parametrize('wrong', [
    {'bits': 0}, {'bits': 17}, {'bits': 2.5}, {'bits': True},
    {'bits': 2, 'stochastic': 1}, {'bits': 2, 'over': 'layer'}])
def test_wrong_arguments(wrong):
  with pytest.raises(ValueError, match=list(wrong)[-1]):
    aggregation.quantize(**wrong)

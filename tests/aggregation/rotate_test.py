"""Rotations: undone, of a round, and of the right lengths."""

import jax
import numpy as np
import pytest
import scipy.linalg
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.aggregation import hadamard
from fedjax_sim.core import costs
from fedjax_sim.core.types import Keys
from tests.aggregation import sending

RNG = np.random.default_rng(0)
# Padded to 8, 1 and 128, and what does not rotate.
UPDATE = {'a': jnp.float32(RNG.normal(size=(3, 2))), 'b': jnp.float32([2.5]),
          'c': jnp.float32(RNG.normal(size=100)), 'empty': jnp.zeros((0, 2)),
          'whole': jnp.arange(3)}


@pytest.mark.parametrize('size', [1, 2, 128, 2048])
def test_the_fast_transform_is_the_product_with_the_matrix(size):
  x = RNG.normal(size=size)
  matrix = scipy.linalg.hadamard(size).astype(np.int8)
  want = matrix @ x.astype(np.float32) / np.sqrt(size)
  np.testing.assert_allclose(
      hadamard.transform(jnp.float32(x)), want, atol=1e-5)


@pytest.mark.parametrize('over, sizes', [
    ('leaf', {'a': 8, 'b': 1, 'c': 128}), ('vector', {'a': 128, 'b': 0, 'c': 0})
])
def test_it_keeps_lengths_and_is_undone(over, sizes):
  part = aggregation.rotate(over)
  sent = sending.send(part, UPDATE)
  assert {name: sent.update[name].size for name in sizes} == sizes
  assert costs.total(sent.cost) == 32 * (sum(sizes.values()) + 3)
  norms = [np.sqrt(sum(np.sum(np.float64(x[name]) ** 2) for name in sizes))
           for x in (sent.update, UPDATE)]
  assert norms[0] == pytest.approx(norms[1], rel=1e-6)
  jax.tree.map(lambda got, want: np.testing.assert_allclose(
      got, want, atol=1e-6), sending.receive(part, UPDATE), UPDATE)
  np.testing.assert_array_equal(sent.update['whole'], UPDATE['whole'])


def test_one_rotation_a_round_for_all_clients_which_spreads_a_value():
  update = {'a': jnp.zeros(256).at[3].set(16.0), 'b': UPDATE['c']}
  send = lambda round_key, client_key: sending.send(
      aggregation.rotate(), update,
      Keys(jax.random.key(round_key), jax.random.key(client_key))).update
  one, other, later = send(0, 0), send(0, 1), send(1, 0)
  np.testing.assert_allclose(np.abs(one['a']), 1.0, rtol=1e-6)
  jax.tree.map(np.testing.assert_array_equal, one, other)
  assert np.mean(np.abs(one['b'] - later['b']) > 1e-3) > 0.9


def test_signs_are_fair_and_independent():
  keys = jax.random.split(jax.random.key(0), 400)
  signs = np.asarray(jax.vmap(
      lambda key: hadamard.signs(key, 70, jnp.float32))(keys))
  assert set(np.unique(signs)) == {-1, 1}
  products = signs.T @ signs / len(keys) - np.eye(70)
  assert np.abs(products).max() < 5 / np.sqrt(len(keys))
  assert np.abs(signs.mean(0)).max() < 5 / np.sqrt(len(keys))


def test_leaves_keep_their_dtypes():
  half = {'a': jnp.bfloat16(UPDATE['c'])}
  sent = sending.send(aggregation.rotate(), half)
  assert sent.update['a'].dtype == jnp.bfloat16
  assert costs.total(sent.cost) == 128 * 16
  np.testing.assert_allclose(
      sending.receive(aggregation.rotate(), half)['a'], half['a'], atol=0.02)


@pytest.mark.parametrize('over, weight', [
    ('leaf', {'a': jnp.ones(3), 'rest': jnp.ones(())}),
    ('vector', {'a': jnp.ones(()), 'rest': jnp.ones(())})])
def test_values_of_different_weights_are_not_mixed(over, weight):
  update = {'a': jnp.ones((3, 2)), 'rest': jnp.ones(4)}
  with pytest.raises(ValueError, match='needs one weight'):
    sending.send(aggregation.rotate(over), update, weight=weight)

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim.core import random


def test_order_is_a_permutation_whatever_the_padding():
  key = jax.random.key(3)
  want = np.asarray(random.random_order(key, jnp.int32(7), 7))
  assert sorted(want) == list(range(7)) and list(want) != list(range(7))
  for padded_size in (8, 100, 1001):
    got = np.asarray(random.random_order(key, jnp.int32(7), padded_size))
    np.testing.assert_array_equal(got[:7], want)
    np.testing.assert_array_equal(got[7:], np.arange(7, padded_size))


def test_orders_are_uniform():
  """All 6 orders of 3, within 5 standard deviations of 1/6 over 6,000 draws."""
  keys = jax.random.split(jax.random.key(0), 6000)
  orders = jax.vmap(lambda k: random.random_order(k, 3, 5)[:3])(keys)
  counts = np.unique(np.asarray(orders) @ [100, 10, 1], return_counts=True)[1]
  assert len(counts) == 6
  sigma = np.sqrt(6000 * (1 / 6) * (5 / 6))
  assert np.abs(counts - 1000).max() < 5 * sigma


def test_keys_differ_by_every_part_of_the_identity():
  root = jax.random.key(0)
  make = lambda seed, r, c, o, name: tuple(jax.random.key_data(random.named(
      random.client_key(random.round_key(jax.random.key(seed), r), c, o),
      name)).tolist())
  keys = {make(s, r, c, o, name) for s in (0, 1) for r in (0, 1)
          for c in (0, 1) for o in (0, 1) for name in ('order', 'step')}
  assert len(keys) == 32
  assert random.named(root, 'a') == random.named(root, 'a')


@pytest.mark.parametrize('size', [0, 1])
def test_small_orders(size):
  order = random.random_order(jax.random.key(0), jnp.int32(size), 4)
  np.testing.assert_array_equal(order, np.arange(4))

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


def test_small_seeds_are_those_of_jax():
  for seed in (0, 1, 7, 2**31, 2**32 - 1):
    assert random.root_key(seed) == jax.random.key(np.uint32(seed))
    assert random.root_key(np.int64(seed)) == random.root_key(seed)


def test_large_seeds_are_those_of_jax_in_64_bits():
  for seed in (2**32, 2**40 + 3, 2**63 - 1):
    with jax.enable_x64():
      expected = np.asarray(jax.random.key_data(jax.random.key(seed)))
    np.testing.assert_array_equal(
        jax.random.key_data(random.root_key(seed)), expected)


@pytest.mark.parametrize('kind', ['threefry2x32', 'rbg', 'unsafe_rbg'])
def test_no_two_seeds_share_a_key(kind):
  seeds = [s + 2**32 * t for s in (0, 1, 2, 2**31, 2**32 - 1)
           for t in (0, 1, 2, 2**31, 2**32 - 1)]
  with jax.default_prng_impl(kind):
    keys = random.root_keys(seeds)
  assert keys.shape == (len(seeds),)
  words = np.asarray(jax.random.key_data(keys)).reshape(len(seeds), -1)
  assert len(np.unique(words, axis=0)) == len(seeds)
  assert seeds[-1] == random.MAX_SEED


def test_no_two_seeds_and_purposes_share_words():
  seeds = [s + 2**32 * t for s in range(4) for t in range(4)]
  states = {tuple(np.random.SeedSequence(random.words(seed, number))
                  .generate_state(4))
            for seed in seeds for number in range(4)}
  assert len(states) == len(seeds) * 4


def test_small_seeds_have_the_words_they_had():
  for seed, number in ((0, 0), (5, 0), (2**32 - 1, 3)):
    np.testing.assert_array_equal(
        np.random.SeedSequence(random.words(seed, number)).generate_state(8),
        np.random.SeedSequence([seed, number]).generate_state(8))


WRONG_SEEDS = [-1, 2**64, 10**30, True, np.True_, 1.0, 0.5, np.float32(1), '1',
               None, [1], np.zeros(2, int), float('nan')]


@pytest.mark.parametrize('seed', WRONG_SEEDS, ids=str)
def test_what_is_no_seed_is_refused(seed):
  match = r'seed must be a whole number from 0 to 2\*\*64 - 1, got'
  for use in (random.root_key, lambda s: random.root_keys([0, s]),
              lambda s: random.words(s, 0)):
    with pytest.raises(ValueError, match=match):
      use(seed)

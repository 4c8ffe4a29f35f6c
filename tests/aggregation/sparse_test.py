"""The k largest and k random entries, against NumPy and the formulas."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim.aggregation.random_k import random_k
from fedjax_sim.aggregation.top_k import top_k
from fedjax_sim.core import bit_streams, costs
from fedjax_sim.core.types import Keys
from tests.aggregation import sending

RNG = np.random.default_rng(0)


def sent_by(transform, update, key=jax.random.key(0)):
  return sending.send(transform, update, Keys(jax.random.key(5), key))


def flat(tree):
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def largest(x, k):
  """x, zero but for the k largest, of equal ones the first."""
  order = np.argsort(-np.abs(x), kind='stable')[:k]
  result = np.zeros_like(x)
  result[order] = x[order]
  return result


# With equal ones, at the threshold too.
UPDATES = {'a': RNG.integers(-4, 5, (6, 5, 8)).astype(np.float32),
           'b': RNG.normal(size=(6, 30)).astype(np.float32)}


@pytest.mark.parametrize('k', [1, 13, 30])
def test_the_largest_of_all_leaves_and_of_each(k):
  """A row is a client, as under the engine's vmap."""
  both = jax.vmap(lambda u: (
      sent_by(top_k(k=k), u).update,
      sent_by(top_k(k=k, over='leaf'), u).update))
  together, each = both(UPDATES)
  for i in range(6):
    one, all_of_it, parts = jax.tree.map(
        lambda x, i=i: np.asarray(x[i]), (UPDATES, together, each))
    np.testing.assert_array_equal(flat(all_of_it), largest(flat(one), k))
    for name, x in parts.items():
      np.testing.assert_array_equal(
          x.ravel(), largest(one[name].ravel(), k))


def test_a_fraction_is_of_all_entries_and_never_none():
  one = {'a': UPDATES['a'][0], 'b': UPDATES['b'][0]}
  count = lambda transform: int(sum(
      x.sum() for x in jax.tree.leaves(sent_by(transform, one).sent)))
  assert count(top_k(0.1)) == count(random_k(0.1)) == 7
  assert count(top_k(1e-6)) == 1
  assert count(top_k(0.1, over='leaf')) == 4 + 3
  np.testing.assert_array_equal(
      flat(sent_by(top_k(1.0), one).update), flat(one))


def test_half_precision_keeps_its_dtype():
  update = {'a': jnp.array([1, -3, 2], jnp.bfloat16)}
  got = sent_by(top_k(k=2), update).update['a']
  assert got.dtype == jnp.bfloat16
  np.testing.assert_array_equal(got.astype(jnp.float32), [0, -3, 2])


@pytest.mark.parametrize('make', [top_k, random_k])
def test_what_is_not_finite_is_seen(make):
  update = {'a': jnp.array([1.0, jnp.nan, -9.0, jnp.inf])}
  got = np.asarray(sent_by(make(k=1), update).update['a'])
  assert np.isnan(got[1]) and np.isinf(got[3])


@pytest.mark.parametrize('make', [top_k, random_k])
@pytest.mark.parametrize('kwargs, message', [
    ({}, 'must be given a fraction or k'),
    ({'fraction': 0.1, 'k': 2}, 'must be given a fraction or k'),
    ({'fraction': 0}, r'fraction must lie in \(0, 1\], got 0'),
    ({'fraction': 1.5}, r'fraction must lie in \(0, 1\], got 1.5'),
    ({'k': 0}, 'k must be a whole number >= 1'),
    ({'k': 2, 'over': 'all'}, 'over must be one of leaf, vector')])
def test_bad_numbers(make, kwargs, message):
  with pytest.raises(ValueError, match=message):
    make(**kwargs)


def test_more_than_there_are():
  with pytest.raises(ValueError, match='number of entries, 3, got 4'):
    sent_by(top_k(k=4), {'a': jnp.zeros(3)})


def test_bits_are_those_of_a_coder():
  """Where entries are, and then these as floats."""
  one = {'a': UPDATES['a'][0], 'b': UPDATES['b'][0]}
  for over, leaves in (('vector', [one]), ('leaf', [{'a': one['a']},
                                                    {'b': one['b']}])):
    sent = sending.send(top_k(0.2, over=over), one)
    written = 0
    for leaf in leaves:
      x = flat({name: sent.update[name] for name in leaf})
      mask = flat({name: sent.sent[name] for name in leaf})
      stream = np.concatenate([
          bit_streams.positions(mask), bit_streams.floats(x[mask])])
      reader, read = bit_streams.Reader(stream), np.zeros(x.size, np.float32)
      where = reader.positions(x.size)
      read[where] = reader.floats(where.sum())
      np.testing.assert_array_equal(read, x)
      written += len(stream)
    assert costs.total(sent.cost) == written
  bits = lambda **kwargs: float(costs.total(
      sending.send(random_k(k=10, **kwargs), one).cost))
  assert (bits(), bits(shared=True)) == (10 * 32 + 32, 10 * 32)


def test_entries_left_out_by_training_do_not_travel():
  update, sent = {'w': jnp.array([5.0, 3, 4, 1])}, {
      'w': jnp.array([False, True, True, True])}
  got = sending.send(top_k(k=2), update, sent=sent)
  np.testing.assert_array_equal(got.update['w'], [0, 0, 4, 0])
  assert sum(jax.tree.leaves(got.cost.values)) == 32


def draws(count, **kwargs):
  """(x, what is sent of it count times), an array and [count, d]."""
  x = {'a': RNG.normal(size=8).astype(np.float32),
       'b': RNG.normal(size=(2, 6)).astype(np.float32)}
  keys = jax.random.split(jax.random.key(1), count)
  sent = jax.vmap(
      lambda key: sent_by(random_k(**kwargs), x, key).update)(keys)
  return flat(x), np.concatenate(
      [np.reshape(y, (count, -1)) for y in jax.tree.leaves(sent)], axis=1)


@pytest.mark.parametrize('over', ['vector', 'leaf'])
def test_the_variance_is_that_of_the_formula(over):
  x, sent = draws(10_000, k=4, over=over)
  want = (20 / 4 - 1) * (x ** 2).sum()
  if over == 'leaf':
    want = (8 / 4 - 1) * (x[:8] ** 2).sum() + (12 / 4 - 1) * (x[8:] ** 2).sum()
  assert ((sent - x) ** 2).sum(1).mean() == pytest.approx(want, rel=0.02)


def test_exactly_k_entries_are_drawn_each_as_often():
  _, sent = draws(5000, k=4)
  assert set((sent != 0).sum(1)) == {4}
  share = (sent != 0).mean(0)
  np.testing.assert_allclose(share, 4 / 20, atol=5 * np.sqrt(0.16 / 5000))


def test_shared_entries_are_those_of_the_round():
  x = jnp.ones(40)
  get = lambda shared, seed: np.asarray(sent_by(
      random_k(k=5, shared=shared), {'a': x}, jax.random.key(seed)).update['a'])
  np.testing.assert_array_equal(get(True, 1), get(True, 2))
  assert (get(False, 1) != get(False, 2)).any()


def test_without_the_factor():
  x = {'a': jnp.arange(1.0, 9.0)}
  got = np.asarray(sent_by(random_k(k=3, unbiased=False), x).update['a'])
  assert ((got == 0) | (got == x['a'])).all() and (got != 0).sum() == 3

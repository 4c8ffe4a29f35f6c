import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.core.types import Message


def messages(num, present, weight_shape=(), seed=0):
  rng = np.random.default_rng(seed)
  return Message(
      {'a': jnp.asarray(rng.normal(size=(num, *weight_shape, 3)), jnp.float32),
       'b': jnp.asarray(rng.normal(size=(num, *weight_shape)), jnp.float32)},
      jnp.asarray(rng.uniform(1, 9, (num, *weight_shape)), jnp.float32),
      jnp.asarray(present), {'steps': jnp.arange(num, dtype=jnp.float32)},
      jnp.arange(num))


def reduce_blocks(reducer, all_messages, width):
  one = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), all_messages)
  num = len(all_messages.present)
  accumulator = reducer.init(one, num)
  for i in range(0, num, width):
    accumulator = reducer.accumulate(
        accumulator, jax.tree.map(lambda x, i=i: x[i:i + width], all_messages))
  return accumulator


def test_weighted_mean_over_blocks():
  present = [True, False, True, True, True, False]
  sent = messages(6, present)
  reducer = aggregation.weighted_mean()
  keep = np.flatnonzero(present)
  for width in (1, 2, 3, 6):
    got = reducer.finalize(reduce_blocks(reducer, sent, width), None)
    for name in ('a', 'b'):
      want = np.average(sent.update[name][keep], axis=0,
                        weights=sent.weight[keep])
      np.testing.assert_allclose(got.mean[name], want, rtol=1e-5)
    np.testing.assert_allclose(got.weight, sent.weight[keep].sum(), rtol=1e-6)
    assert got.count == 4 and got.aux['steps'] == 0 + 2 + 3 + 4


def test_weights_of_shape_k_are_means_of_their_own():
  sent = messages(4, [True] * 4, weight_shape=(2,))
  sent = sent._replace(weight=sent.weight.at[:, 1].set(0))
  reducer = aggregation.weighted_mean()
  got = reducer.finalize(reduce_blocks(reducer, sent, 2), None)
  want = np.average(sent.update['a'][:, 0], axis=0, weights=sent.weight[:, 0])
  np.testing.assert_allclose(got.mean['a'][0], want, rtol=1e-5)
  np.testing.assert_array_equal(got.mean['a'][1], np.zeros(3))


def test_absent_slots_are_selected_away_not_multiplied():
  sent = messages(3, [True, False, True])
  nan = jax.tree.map(lambda x: x.at[1].set(jnp.nan),
                     (sent.update, sent.weight, sent.aux))
  poisoned = sent._replace(update=nan[0], weight=nan[1], aux=nan[2])
  reducer = aggregation.weighted_mean()
  get = lambda m: reducer.finalize(reduce_blocks(reducer, m, 3), None)
  jax.tree.map(np.testing.assert_array_equal, get(poisoned), get(sent))


def test_nobody_present_gives_zero():
  sent = messages(2, [False, False])
  reducer = aggregation.weighted_mean()
  got = reducer.finalize(reduce_blocks(reducer, sent, 2), None)
  np.testing.assert_array_equal(got.mean['a'], np.zeros(3))
  assert got.count == 0


def test_merge_is_the_reduction_of_both():
  sent = messages(6, [True, True, False, True, True, True])
  half = lambda s: jax.tree.map(lambda x: x[s], sent)
  reducer = aggregation.weighted_mean()
  both = reducer.merge(reduce_blocks(reducer, half(slice(0, 3)), 3),
                       reduce_blocks(reducer, half(slice(3, 6)), 3))
  whole = reduce_blocks(reducer, sent, 6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
               reducer.finalize(both, None), reducer.finalize(whole, None))


def test_chain_applies_in_order_and_tells_shapes_and_states():
  """Doubles, then turns to integers: a later part sees the earlier's types."""
  seen = {}
  def double(message, state, own, key):
    update = jax.tree.map(lambda u: 2 * u, message.update)
    return message._replace(update=update), own + 1
  def to_int(message, state, own, key):
    return message._replace(update=jax.tree.map(
        lambda u: jnp.round(u).astype(jnp.int32), message.update)), own
  def see(message):
    seen['dtype'] = message.update['a'].dtype
    return jnp.float32(3)
  chain = aggregation.chain(
      aggregation.identity()._replace(
          client=double, client_init=lambda m: jnp.int32(0)),
      aggregation.identity()._replace(client=to_int),
      aggregation.identity()._replace(
          init=see, server=lambda s, aggregate, key: s + aggregate.count),
      reduce=aggregation.weighted_mean())
  one = jax.tree.map(lambda x: x[0], messages(1, [True]))
  state, own = chain.init(one), chain.client_init(one)
  got, own = chain.client(one, state, own, jax.random.key(0))
  np.testing.assert_array_equal(
      got.update['a'], np.round(2 * one.update['a']).astype(np.int32))
  assert seen['dtype'] == jnp.int32 and own == (1, (), ())
  aggregate = chain.reducer.finalize(
      reduce_blocks(chain.reducer, messages(2, [True, True]), 2), None)
  assert chain.server(state, aggregate, jax.random.key(0)) == ((), (), 5)


def test_transforms_have_keys_of_their_own():
  draw = aggregation.identity()._replace(
      client=lambda m, s, own, key: (m, jax.random.uniform(key)))
  chain = aggregation.chain(draw, draw, reduce=aggregation.weighted_mean())
  one = jax.tree.map(lambda x: x[0], messages(1, [True]))
  _, (a, b) = chain.client(one, ((), ()), ((), ()), jax.random.key(0))
  assert a != b

"""Chains of transforms, on single messages."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.aggregation.chain import nobody
from fedjax_sim.core.types import Aggregate, Keys, Message
from tests.aggregation.parts import padded_signs, rounding

ONE = Message(
    {'a': jnp.array([1.2, -3.4, 0.6]), 'b': jnp.array([[7.9]])},
    jnp.float32(2), jnp.array(True), {'algorithm': {'loss': jnp.float32(3)}})
KEYS = Keys(jax.random.key(1), jax.random.key(2))


def sent_by(transform, message=ONE):
  """(message, state, memory)"""
  state = transform.init(message, 5, jax.random.key(0))
  message, memory = transform.client(
      message, state, transform.client_init(message), KEYS, nobody(1))
  return message, state, memory


def test_in_order_with_the_shapes_of_what_comes_in():
  """Doubles, then turns to integers: a later part sees the earlier's types."""
  seen = {}

  def double(message, state, memory, keys, cohort):
    update = jax.tree.map(lambda u: 2 * u, message.update)
    return message._replace(update=update), memory + 1

  def to_int(message, state, memory, keys, cohort):
    return message._replace(update=jax.tree.map(
        lambda u: jnp.round(u).astype(jnp.int32), message.update)), memory

  def see(message, num_clients, key):
    seen['dtype'], seen['clients'] = message.update['a'].dtype, num_clients
    return jnp.float32(3)

  chain = aggregation.chain(
      aggregation.transform(
          'double', client=double, client_init=lambda m: jnp.int32(0)),
      aggregation.transform('to_int', client=to_int),
      aggregation.transform('see', init=see, server=lambda a, s, key, cohort: (
          a, s + a.count, {'seen': s})))
  message, state, memory = sent_by(chain)
  np.testing.assert_array_equal(message.update['a'], [2, -7, 1])
  assert seen == {'dtype': jnp.int32, 'clients': 5}
  assert memory == {'double': 1, 'to_int': (), 'see': ()}
  aggregate = Aggregate(message.update, 1.0, 1.0, 2, message.sums)
  _, state, metrics = chain.server(
      aggregate, state, KEYS.round, nobody(1), ONE)
  assert state['see'] == 5 and metrics == {'see': {'seen': 3}}


def test_decoding_goes_backwards_and_to_the_shapes_before():
  chain = aggregation.chain(padded_signs(), rounding(64.0))
  message, state, _ = sent_by(chain)
  assert message.update['a'].shape == (8,)
  decoded = chain.decode(message.update, state, KEYS.round, ONE.update)
  aggregate, _, _ = chain.server(
      Aggregate(message.update, 1.0, 1.0, 1, message.sums), state, KEYS.round,
      nobody(1), ONE)
  for got in (decoded, aggregate.mean):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1 / 128),
                 got, ONE.update)


def test_a_chain_in_a_chain_is_one_chain():
  a, b, c = padded_signs(), rounding(), padded_signs()
  flat, nested = (aggregation.chain(a, b, c),
                  aggregation.chain(a, aggregation.chain(b, c)))
  jax.tree.map(np.testing.assert_array_equal, sent_by(flat), sent_by(nested))


def test_keys_are_of_a_name_and_its_repetition_not_of_a_place():
  draw = lambda name: aggregation.transform(
      name, client_init=lambda m: (0.0, 0.0),
      client=lambda m, s, memory, keys, cohort: (
          m, tuple(jax.random.uniform(key) for key in keys)))
  alone = sent_by(aggregation.chain(draw('x')))[2]['x']
  memory = sent_by(aggregation.chain(draw('y'), draw('x'), draw('x')))[2]
  assert memory['x'] == alone
  assert len(set(map(float, jax.tree.leaves(memory)))) == 6


def test_sums_are_each_parts_own():
  def count(amount):
    def client(message, state, memory, keys, cohort):
      assert not message.sums
      return message._replace(sums={'n': jnp.float32(amount)}), memory
    return aggregation.transform(
        'count', client=client,
        server=lambda a, s, key, cohort: (a, s, {'n': a.sums['n']}))

  chain = aggregation.chain(count(1), aggregation.identity(), count(2))
  message, state, _ = sent_by(chain)
  assert message.sums == {
      'algorithm': {'loss': 3}, 'count': {'n': 1}, 'count 2': {'n': 2}}
  aggregate, _, metrics = chain.server(
      Aggregate(message.update, 1.0, 1.0, 1, message.sums), state, KEYS.round,
      nobody(1), ONE)
  assert aggregate.sums == {'algorithm': {'loss': 3}}
  assert metrics == {'count': {'n': 1}, 'count 2': {'n': 2}}


@pytest.mark.parametrize('make, message', [
    (lambda: aggregation.aggregator(aggregation.median), 'which has to be cal'),
    (lambda: aggregation.aggregator(4), 'must be a transform, .* got 4'),
    (lambda: aggregation.aggregator(aggregation.median()), 'as reduce='),
    (lambda: aggregation.aggregator(reduce=aggregation.clip(1.0)),
     "reduce must be a reducer, .* got the transform 'clip'"),
    (lambda: aggregation.chain(aggregation.median()),
     'chain must be a transform, .* got a reducer')])
def test_wrong_kinds_of_parts(make, message):
  with pytest.raises(ValueError, match=message):
    make()

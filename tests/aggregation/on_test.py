"""`on`: leaves that a pattern chooses are transformed, the others are not."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.aggregation.chain import nobody
from fedjax_sim.core import costs
from fedjax_sim.core.types import Keys, Message
from tests.aggregation import parts

RNG = np.random.default_rng(0)
UPDATE = {'params': {
    name: {'kernel': jnp.float32(RNG.normal(size=(3, 2))),
           'bias': jnp.float32(RNG.normal(size=2))}
    for name in ('conv_0', 'dense_0', 'dense_1')}}
KEYS = Keys(jax.random.key(1), jax.random.key(2))
COHORT = nobody(1)


def message(**fields):
  return Message(UPDATE, jnp.float32(2), cost=costs.of(UPDATE))._replace(
      **fields)


def send(transform, one):
  """(the message sent, the state)."""
  state = transform.init(one, 5, jax.random.key(0))
  return transform.client(
      one, state, transform.client_init(one), KEYS, COHORT)[0], state


def dense(tree):
  return {name: layer for name, layer in tree['params'].items()
          if name.startswith('dense')}


@pytest.mark.parametrize('name', ['clip', 'chain', 'random_mask'])
def test_it_is_the_transform_of_the_chosen_leaves(name):
  part = parts.TRANSFORMS[name]()
  got, _ = send(aggregation.on('dense*', part), message())
  alone = {'params': {**dense(UPDATE), 'conv_0': None}}
  want, _ = send(part, message(update=alone, cost=costs.of(alone)))
  jax.tree.map(np.testing.assert_array_equal, dense(got.update),
               dense(want.update))
  jax.tree.map(np.testing.assert_array_equal, got.update['params']['conv_0'],
               UPDATE['params']['conv_0'])
  # Eight floats of the other layer travel as they are.
  assert costs.total(got.cost) == costs.total(want.cost) + 8 * 32
  assert got.weight == 2
  if want.sent is not None:
    jax.tree.map(np.testing.assert_array_equal, dense(got.sent),
                 dense(want.sent))
    assert all(np.all(x) for x in jax.tree.leaves(
        got.sent['params']['conv_0']))


@pytest.mark.parametrize('pattern', ['*', 'params/dense_0/*', 'kernel'])
def test_what_is_encoded_is_decoded(pattern):
  transform = aggregation.on(pattern, parts.padded_signs())
  got, state = send(transform, message())
  shapes = [x.shape for x in jax.tree.leaves(got.update)]
  assert (8,) in shapes and ((2,) in shapes) == (pattern != '*')
  decoded = transform.decode(got.update, state, KEYS.round, UPDATE)
  jax.tree.map(np.testing.assert_array_equal, decoded, UPDATE)


def test_errors():
  with pytest.raises(ValueError, match="pattern of on .*transform 'clip'"):
    aggregation.on(aggregation.clip(1.0), 'dense*')
  with pytest.raises(ValueError, match='function median itself'):
    aggregation.on('dense*', aggregation.median)
  with pytest.raises(ValueError, match='part of on.* got a reducer'):
    aggregation.on('dense*', aggregation.median())
  with pytest.raises(ValueError, match="'dens' must fit one of params/conv_0"):
    send(aggregation.on('dens', aggregation.clip(1.0)), message())
  with pytest.raises(ValueError, match='what clients send'):
    aggregation.on('*', aggregation.downlink(aggregation.clip(1.0)))
  flat = aggregation.transform(
      'flat', client=lambda message, state, memory, keys, cohort: (
          message._replace(update=jax.tree.leaves(message.update)), memory))
  with pytest.raises(ValueError, match="keeps the tree .*'flat'"):
    send(aggregation.on('*', flat), message())

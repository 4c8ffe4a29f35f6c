"""`chain`: a round's aggregation as a list that reads like a sentence."""

import jax

from fedjax_sim.core import random
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    Message,
    MessageTransform,
    PyTree,
    Reducer,
)


def identity() -> MessageTransform:
  """Changes nothing: a starting point for `_replace` and for tests."""
  return MessageTransform(
      init=lambda message: (),
      client_init=lambda message: (),
      client=lambda message, state, client_state, key: (message, client_state),
      server=lambda state, aggregate, key: state)


def chain(*transforms: MessageTransform, reduce: Reducer) -> Aggregator:
  """Applies `transforms` in order to every message, then reduces.

  Example: `chain(clip, quantize, reduce=weighted_mean())`.

  Args:
    *transforms: each sees the message as the one before left it.
    reduce: turns all messages of a round into one aggregate.

  Returns:
    An `Aggregator`; its states are tuples with an entry for each transform.
  """

  def init(message: Message) -> tuple[PyTree, ...]:
    return tuple(t.init(m) for t, m in _shapes_before(transforms, message))

  def client_init(message: Message) -> tuple[PyTree, ...]:
    return tuple(
        t.client_init(m) for t, m in _shapes_before(transforms, message))

  def client(message, states, client_states, key):
    new_states = []
    for i, transform in enumerate(transforms):
      message, new_state = transform.client(
          message, states[i], client_states[i], _key(key, i))
      new_states.append(new_state)
    return message, tuple(new_states)

  def server(states, aggregate: Aggregate, key):
    return tuple(t.server(states[i], aggregate, _key(key, i))
                 for i, t in enumerate(transforms))

  return Aggregator(init, client_init, client, server, reduce)


def _key(key: jax.Array, position: int) -> jax.Array:
  return random.named(key, f'transform {position}')


def _shapes_before(transforms, message):
  """Pairs each transform with the shapes of the message that it will see."""
  for transform in transforms:
    yield transform, message
    message = jax.eval_shape(
        lambda m, t=transform: t.client(
            m, t.init(m), t.client_init(m), jax.random.key(0))[0], message)

"""A reducer for messages that are for one of K server models each."""

import jax
from jax import numpy as jnp

from fedjax_sim.core import trees
from fedjax_sim.core.types import Aggregate, Message, Reducer


def grouped(reducer: Reducer) -> Reducer:
  """Reduces the messages of each group on their own.

  Args:
    reducer: of messages without a group.

  Returns:
    A reducer of messages with one. Of its aggregate `mean`, `weight` and
    `denominator` are [K, ...]; `count` and `sums` are over all groups. Its
    metrics are means over groups.
  """
  def init(message: Message, num_slots: int):
    one = reducer.init(message._replace(group=None), num_slots)
    return _copies(one, message.group.shape[-1])

  def accumulate(accumulators, messages: Message):
    def one(accumulator, here):
      return reducer.accumulate(accumulator, messages._replace(
          group=None, present=messages.present & here))
    return jax.vmap(one, (0, 1))(accumulators, messages.group)

  def initial(message: Message, num_clients: int, key):
    keys = jax.random.split(key, message.group.shape[-1])
    return jax.vmap(lambda key: reducer.initial(
        message._replace(group=None), num_clients, key))(keys)

  def finalize(accumulators, states, broadcast, key):
    keys = jax.random.split(key, len(jax.tree.leaves(accumulators)[0]))
    aggregate, states, metrics = jax.vmap(
        lambda accumulator, state, key: reducer.finalize(
            accumulator, state, broadcast, key))(accumulators, states, keys)
    total = lambda tree: jax.tree.map(lambda x: jnp.sum(x, 0, x.dtype), tree)
    return (Aggregate(
        aggregate.mean, aggregate.weight, aggregate.denominator,
        total(aggregate.count), total(aggregate.sums)),
            states, jax.tree.map(lambda x: jnp.mean(x, 0), metrics))

  adds = reducer.merge is trees.add
  return Reducer(
      init, accumulate, trees.add if adds else jax.vmap(reducer.merge),
      finalize, initial, tolerant=reducer.tolerant, name=reducer.name,
      weighs=reducer.weighs, ranks=reducer.ranks)


def _copies(tree, count: int):
  return jax.tree.map(
      lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))), tree)

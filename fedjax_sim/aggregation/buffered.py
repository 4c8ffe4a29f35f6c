"""Reduction of all messages of a round at once, kept in a buffer."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.core import random, trees
from fedjax_sim.core.types import (
    Aggregate,
    Keys,
    Message,
    MessageTransform,
    PyTree,
    Reducer,
)


class Stage(NamedTuple):
  """What happens to the messages of a round, all of them together.

  Attributes:
    name: what its keys, states and metrics are found by.
    run: `(messages [M, ...], state, broadcast, key) -> (messages or Aggregate,
      state, Scalars)`. Messages are in the cohort's order; who is absent has
      zeros and `present` False.
    initial: `(message, num_clients, key) -> state`, `()` for none.
  """

  name: str
  run: Callable[..., tuple[Message | Aggregate, PyTree, dict]]
  initial: Callable[..., PyTree] = lambda message, num_clients, key: ()


def buffered(*stages: Stage | MessageTransform | Reducer) -> Reducer:
  """Keeps a round's messages, then takes them through the stages in order.

  Memory grows with the cohort: M updates on each device.

  Args:
    *stages: what comes last turns messages into an aggregate. A transform
      without memory is a stage, applied to each message on its own, and so is
      a reducer without state, as the last one. `buffered(attack, clip(1.0),
      coordinate_median())` clips what an attack has made of the messages that
      it saw together.
  """
  named = [_stage(stage) for stage in stages]
  if len({stage.name for stage in named}) < len(named):
    raise ValueError('stages must have different names, got '
                     f'{", ".join(stage.name for stage in named)}.')

  def init(message: Message, num_slots: int) -> Message:
    return jax.tree.map(
        lambda x: jnp.zeros((num_slots, *x.shape), x.dtype), message)

  def accumulate(buffer: Message, messages: Message) -> Message:
    target = jnp.where(
        messages.present, messages.slot.place, len(buffer.present))
    return jax.tree.map(
        lambda b, x: b.at[target].set(x, mode='drop'), buffer, messages)

  def initial(message: Message, num_clients: int, key):
    return {stage.name: stage.initial(
        message, num_clients, random.named(key, stage.name))
            for stage in named}

  def finalize(buffer: Message, states, broadcast, key):
    messages, new, metrics = _with_bools(buffer), {}, {}
    for stage in named:
      messages, new[stage.name], told = stage.run(
          messages, states[stage.name], broadcast,
          random.named(key, stage.name))
      metrics |= {f'{stage.name} {name}': x for name, x in told.items()}
    if not isinstance(messages, Aggregate):
      raise ValueError(f'the last stage must make an aggregate of messages, '
                       f'{named[-1].name!r} does not.')
    return messages, new, metrics

  return Reducer(init, accumulate, trees.add, finalize, initial)


def _with_bools(buffer: Message) -> Message:
  """Sums over devices have made integers of bools."""
  slot = buffer.slot._replace(present=buffer.slot.present.astype(bool))
  if slot.arrives is not None:
    slot = slot._replace(arrives=slot.arrives.astype(bool))
  return buffer._replace(present=buffer.present.astype(bool), slot=slot)


def _stage(stage: Stage | MessageTransform | Reducer) -> Stage:
  if isinstance(stage, MessageTransform):
    return _transform_stage(stage)
  if isinstance(stage, Reducer):
    return _reducer_stage(stage)
  return stage


def _transform_stage(transform: MessageTransform) -> Stage:
  """Each message on its own; its sums stay where they are."""
  def run(messages: Message, state, broadcast, key):
    del broadcast
    if jax.tree.leaves(jax.eval_shape(
        transform.client_init, jax.tree.map(lambda x: x[0], messages))):
      raise ValueError(f'a stage must have no memory of clients, '
                       f'{transform.name!r} has one.')

    def one(message: Message, place):
      keys = Keys(key, jax.random.fold_in(key, place))
      changed, _ = transform.client(
          message._replace(sums={}), state, (), keys, messages.slot)
      return changed._replace(sums=message.sums, cost=None)

    places = jnp.arange(len(messages.present), dtype=jnp.int32)
    return jax.vmap(one)(messages, places), state, {}

  return Stage(transform.name, run, lambda message, num_clients, key:
               transform.init(message, num_clients, key))


def _reducer_stage(reducer: Reducer) -> Stage:
  """A reducer of the messages as one block."""
  def run(messages: Message, state, broadcast, key):
    one = jax.tree.map(lambda x: x[0], messages)
    accumulator = reducer.accumulate(
        reducer.init(one, len(messages.present)), messages)
    return reducer.finalize(accumulator, state, broadcast, key)
  return Stage('reducer', run, reducer.initial)



"""Reduction of all messages of a round at once, kept in a buffer."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import kinds
from fedjax_sim.aggregation.chain import nobody
from fedjax_sim.aggregation.checked import checked
from fedjax_sim.core import contracts, costs, random, trees
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
      state, Scalars)`. Messages are in the cohort's order; absent ones have
      zeros and `present` False.
    initial: `(message, num_clients, key) -> state`, `()` for none.
    tolerant: as in `Reducer`, of the last stage.
    weighs: as in `Reducer`, of the last stage.
    ranks: as in `Reducer`.
  """

  name: str
  run: Callable[..., tuple[Message | Aggregate, PyTree, dict]]
  initial: Callable[..., PyTree] = lambda message, num_clients, key: ()
  tolerant: bool = False
  weighs: bool = False
  ranks: bool = False

  def __repr__(self) -> str:
    return f'Stage({self.name})'


def buffered(*stages: Stage | MessageTransform | Reducer) -> Reducer:
  """Keeps a round's messages, then takes them through the stages in order.

  Memory grows with the cohort: M updates on each device.

  Args:
    *stages: the last one turns messages into an aggregate: a reducer, or a
      `Stage` such as `coordinate_median()`. Those before it are `Stage`s, or
      transforms, each applied to one message on its own. A transform must work
      on clients alone, as `clip` does: it has no memory, state or sums, decodes
      nothing and does nothing on the server.

  Examples: `buffered(clip(1.0), median())` is the median of clipped updates;
  `buffered(attack, clip(1.0), median())` clips what an attack has made of the
  messages that it saw together.

  Raises:
    ValueError: an argument is none of these or stands in the wrong place; when
      a simulation is built, a transform needs more than clients.
  """
  named = [_stage(stage) for stage in stages]
  _check_order(stages)
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
      if isinstance(messages, Aggregate):
        raise ValueError(f'buffered: {stage.name!r} is after a stage that has '
                         'made an aggregate, which must be the last one.')
      by = f'stage {stage.name!r}: its run'
      messages, new[stage.name], told = contracts.items(by, contracts.call(
          by, stage.run, messages, states[stage.name], broadcast,
          random.named(key, stage.name)),
          '(messages or aggregate, state, metrics)')
      metrics |= {f'{stage.name} {name}': x for name, x in told.items()}
    if not isinstance(messages, Aggregate):
      raise ValueError(_last(named[-1].name))
    return messages, new, metrics

  return Reducer(init, accumulate, trees.add, finalize, initial,
                 tolerant=named[-1].tolerant,
                 name=f'buffered({", ".join(stage.name for stage in named)})',
                 weighs=named[-1].weighs,
                 ranks=any(stage.ranks for stage in named))


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
  kinds.check('an argument of buffered', stage, Stage,
              'a transform, a Stage or a reducer')
  return stage


def _check_order(stages) -> None:
  """A reducer is the last one, and a transform is not."""
  if not stages:
    raise ValueError('buffered needs stages, the last of which makes an '
                     'aggregate, such as buffered(clip(1.0), median()).')
  if any(isinstance(stage, Reducer) for stage in stages[:-1]):
    raise ValueError('buffered takes a reducer as its last stage only, such as '
                     'buffered(clip(1.0), median()).')
  if isinstance(stages[-1], MessageTransform):
    raise ValueError(_last(stages[-1].name))


def _last(name: str) -> str:
  return ('the last stage of buffered must make an aggregate, as median() '
          f'does, {name!r} does not.')


def _transform_stage(transform: MessageTransform) -> Stage:
  """Each message on its own; its sums stay where they are."""
  transform = checked(transform.name, transform)

  def run(messages: Message, state, broadcast, key):
    del broadcast

    def one(message: Message, place):
      keys = Keys(key, jax.random.fold_in(key, place))
      changed, _ = transform.client(
          message._replace(sums={}), state, transform.client_init(message),
          keys, messages.slot)
      return changed._replace(sums=message.sums, cost=None)

    places = jnp.arange(len(messages.present), dtype=jnp.int32)
    return jax.vmap(one)(messages, places), state, {}

  def initial(message: Message, num_clients: int, key):
    needs = _needs_more_than_clients(transform, message)
    if needs:
      raise ValueError(f'a transform in buffered must work on clients alone, '
                       f'{transform.name!r} {needs}. Put it before the reducer '
                       'instead, as an argument of aggregator.')
    return transform.init(message, num_clients, key)

  if transform.broadcast is not None:
    raise ValueError(f'a transform in buffered must work on clients alone, '
                     f'{transform.name!r} changes what the server sends.')
  return Stage(transform.name, run, initial)


def _needs_more_than_clients(
    transform: MessageTransform, message: Message
) -> str:
  """What the buffer can't give it, in words; '' if there is nothing."""
  found = []

  def look(message: Message):
    message = message._replace(sums={}, cost=costs.of(message.update))
    key, cohort = jax.random.key(0), nobody(1)
    state = transform.init(message, 1, key)
    memory = transform.client_init(message)
    sent = transform.client(message, state, memory, Keys(key, key), cohort)[0]
    before = Aggregate(
        sent.update, sent.weight, sent.weight, jnp.int32(1), sent.sums)
    after, _, metrics = transform.server(before, state, key, cohort, message)
    # What a server part leaves alone is the same object.
    same = [id(x) for x in jax.tree.leaves(after)] == [
        id(x) for x in jax.tree.leaves(before)]
    found.extend(name for name, has in (
        ('has memory of clients', jax.tree.leaves(memory)),
        ('has state', jax.tree.leaves(state)),
        ('has sums', jax.tree.leaves(sent.sums)),
        ('has a part on the server', metrics or not same)) if has)
    return ()

  jax.eval_shape(look, message)
  return ' and '.join(found)


def _reducer_stage(reducer: Reducer) -> Stage:
  """A reducer of the messages as one block."""
  def run(messages: Message, state, broadcast, key):
    one = jax.tree.map(lambda x: x[0], messages)
    accumulator = reducer.accumulate(
        reducer.init(one, len(messages.present)), messages)
    return reducer.finalize(accumulator, state, broadcast, key)
  return Stage('reducer', run, reducer.initial, reducer.tolerant,
               reducer.weighs, reducer.ranks)

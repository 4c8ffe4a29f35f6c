"""`chain`: transforms in order, as one transform."""

from collections import Counter
from collections.abc import Iterator

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import encodings, kinds
from fedjax_sim.aggregation.checked import checked
from fedjax_sim.aggregation.means import weighted_mean
from fedjax_sim.core import precision, random
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    Keys,
    Message,
    MessageTransform,
    PyTree,
    Reducer,
    Slot,
)


def aggregator(
    *transforms: MessageTransform, reduce: Reducer | None = None
) -> Aggregator:
  """Applies `transforms` in order to every message, then reduces.

  Example: `aggregator(clip(1.0), reduce=median())`.

  Args:
    *transforms: each sees the message as the one before left it.
    reduce: turns all messages of a round into one aggregate; None is
      `weighted_mean()`.

  Raises:
    ValueError: an argument is no transform, or `reduce` no reducer, or not one
      that fits the transforms.
  """
  for given in transforms:
    if isinstance(given, Reducer):
      raise ValueError('aggregator takes a reducer as reduce=…; what stands '
                       f'before it must be {kinds.TRANSFORM}.')
    kinds.check('an argument of aggregator', given, MessageTransform,
                kinds.TRANSFORM)
  reduce = weighted_mean() if reduce is None else reduce
  kinds.check('reduce', reduce, Reducer, kinds.REDUCER)
  for given in transforms:
    if given.needs_linear and not reduce.linear:
      raise ValueError(
          f'reduce must be a mean, weighted_mean() or fixed_mean(n), beside '
          f'{given.name!r}, which adds up what is sent, got {reduce.name}.')
    selects = reduce.ranks and encodings.selecting(given.encodings)
    if selects:
      raise ValueError(
          f'reduce must not be {reduce.name} beside {selects!r}, which selects '
          'some values: the others would count as zeros, of which most clients '
          'have one in a coordinate. A mean fits, such as weighted_mean().')
  return Aggregator(chain(*transforms) if transforms else None, reduce)


def chain(*transforms: MessageTransform) -> MessageTransform:
  """Applies `transforms` in order; on the server, the last one first.

  A chain within a chain is as if its transforms stood there themselves. Keys,
  sums, states and metrics are found by a transform's name: `clip`, and for the
  second one of a chain `clip 2`. So a transform draws the same whatever else
  is in the chain.

  Args:
    *transforms: each sees the message as the one before left it.

  Raises:
    ValueError: an argument is no transform, or the order makes no sense, as
      `encodings` has it.
  """
  for given in transforms:
    kinds.check('an argument of chain', given, MessageTransform,
                kinds.TRANSFORM)
  parts = tuple(p for t in transforms for p in (t.parts or (t,)))
  encoded = tuple(encoding for part in parts for encoding in part.encodings)
  encodings.check_order(encoded)
  names = _names(parts)
  named = tuple((name, checked(name, part))
                for name, part in zip(names, parts, strict=True))

  def init(message: Message, num_clients: int, key) -> PyTree:
    return {name: part.init(sent, num_clients, random.named(key, name))
            for name, part, sent in _sent(named, message)}

  def client_init(message: Message) -> PyTree:
    return {name: part.client_init(sent)
            for name, part, sent in _sent(named, message)}

  def client(message: Message, states, memories, keys: Keys, cohort: Slot):
    sums, new = dict(message.sums), {}
    for name, part in named:
      message, new[name] = part.client(
          message._replace(sums={}), states[name], memories[name],
          Keys(*(random.named(key, name) for key in keys)), cohort)
      if message.sums:
        sums[name] = message.sums
    return message._replace(sums=sums), new

  def decode(update, states, key, like):
    sent = Message(like, jax.ShapeDtypeStruct((), precision.scalar()))
    for name, part, before in reversed(list(_sent(named, sent))):
      update = part.decode(
          update, states[name], random.named(key, name), before.update)
    return update

  def server(aggregate: Aggregate, states, key, cohort: Slot, sent: Message):
    sums, new, metrics = dict(aggregate.sums), {}, {}
    for name, part, before in reversed(list(_sent(named, sent))):
      aggregate, new[name], metrics[name] = part.server(
          aggregate._replace(sums=sums.pop(name, {})), states[name],
          random.named(key, name), cohort, before)
    return (aggregate._replace(sums=sums), new,
            {name: values for name, values in metrics.items() if values})

  def broadcast(message, states, key):
    new, bits = dict(states), None
    for name, part in named:
      if part.broadcast is not None:
        message, new[name], bits = part.broadcast(
            message, states[name], random.named(key, name))
    return message, new, bits

  return MessageTransform(
      'chain', init, client_init, client, decode, server,
      broadcast if any(p.broadcast for p in parts) else None, parts,
      encoded, any(p.needs_linear for p in parts))


def _names(parts: tuple[MessageTransform, ...]) -> list[str]:
  """Each part's name, with a number from its second time on."""
  seen, names = Counter(), []
  for part in parts:
    seen[part.name] += 1
    count = seen[part.name]
    names.append(part.name if count == 1 else f'{part.name} {count}')
  return names


def _sent(
    named: tuple[tuple[str, MessageTransform], ...], message: Message
) -> Iterator[tuple[str, MessageTransform, Message]]:
  """Each transform with the shapes of the message that it will see."""
  key, cohort = jax.random.key(0), nobody(1)
  slot = jax.tree.map(lambda x: x[0], cohort)  # Parts may look at it.
  for i, (name, part) in enumerate(named):
    yield name, part, message
    if i + 1 == len(named):
      return
    message = jax.eval_shape(
        lambda m, t=part: t.client(
            m._replace(sums={}, slot=slot), t.init(m, 1, key), t.client_init(m),
            Keys(key, key), cohort)[0]._replace(slot=m.slot), message)


def nobody(size: int) -> Slot:
  """A cohort of empty slots [size]."""
  zeros = jnp.zeros(size, jnp.int32)
  return Slot(zeros, zeros, zeros > 0, zeros, zeros, zeros, zeros)

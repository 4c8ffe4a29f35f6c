"""`on`: a transform of some leaves of an update only."""

import fnmatch

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import kinds
from fedjax_sim.aggregation.checked import checked
from fedjax_sim.core import trees
from fedjax_sim.core.costs import Cost
from fedjax_sim.core.types import (
    Aggregate,
    Keys,
    Message,
    MessageTransform,
    PyTree,
)


def on(pattern: str, part: MessageTransform) -> MessageTransform:
  """Applies a transform to some layers; the others travel as they are.

  Example: `on('dense*', clip(1.0))` clips the dense layers, together.

  Args:
    pattern: as for file names, with * and ?. A leaf is chosen if the pattern
      fits one of the names in its path, or an end of the path, such as
      params/dense_2/kernel.
    part: may change shapes and dtypes of leaves, but not the tree.

  Raises:
    ValueError: `pattern` is no text, or `part` no transform or one of what the
      server sends or that changes weights; when run, no leaf is chosen, or
      `part` changes the tree.
  """
  kinds.check('the pattern of on', pattern, str, "text, such as 'dense*'")
  kinds.check(f'the part of on({pattern!r}, …)', part, MessageTransform,
              kinds.TRANSFORM)
  part = checked(part.name, part)
  if part.broadcast is not None:
    raise ValueError(
        f'on({pattern!r}, …) needs a transform of what clients send, got '
        f'{part.name!r}.')
  if part.needs_linear:
    raise ValueError(f'on({pattern!r}, …) needs a transform that leaves '
                     f'weights as they are, {part.name!r} does not.')

  def init(message: Message, num_clients: int, key) -> PyTree:
    return part.init(
        _chosen_part(_choice(pattern, message.update), message), num_clients,
        key)

  def client(message: Message, state, memory, keys: Keys, cohort):
    choice = _choice(pattern, message.update)
    before = _chosen_part(choice, message)
    after, memory = part.client(before, state, memory, keys, cohort)
    if jax.tree.structure(after.update) != jax.tree.structure(before.update):
      raise ValueError(f'on({pattern!r}, …) needs a transform that keeps the '
                       f'tree of an update, {part.name!r} does not.')
    return _joined(choice, message, before, after), memory

  def decode(update: PyTree, state, key, like: PyTree) -> PyTree:
    choice = _choice(pattern, like)
    decoded = part.decode(
        _split(choice, update), state, key, _split(choice, like))
    return _join(choice, decoded, update)

  def server(aggregate: Aggregate, state, key, cohort, sent: Message):
    choice = _choice(pattern, sent.update)
    after, state, metrics = part.server(
        aggregate._replace(mean=_split(choice, aggregate.mean)), state, key,
        cohort, _chosen_part(choice, sent))
    mean = _join(choice, after.mean, aggregate.mean)
    return after._replace(mean=mean), state, metrics

  return MessageTransform(
      f'{part.name} on {pattern}', init,
      lambda message: part.client_init(
          _chosen_part(_choice(pattern, message.update), message)),
      client, decode, server, encodings=tuple(
          encoding.on(pattern, lambda update: _split(
              _choice(pattern, update), update))
          for encoding in part.encodings))


def _choice(pattern: str, update: PyTree) -> PyTree:
  """Bools, of the structure of an update."""
  def fits(path, leaf) -> bool:
    del leaf
    names = trees.path_name(path).split('/')
    ends = ['/'.join(names[i:]) for i in range(len(names))]
    return any(fnmatch.fnmatchcase(text, pattern) for text in (*names, *ends))
  choice = jax.tree.map_with_path(fits, update)
  if not any(jax.tree.leaves(choice)):
    names = [trees.path_name(path)
             for path, _ in jax.tree.leaves_with_path(update)]
    raise ValueError(f'on: the pattern {pattern!r} must fit one of '
                     f'{", ".join(names)}.')
  return choice


def _split(choice: PyTree, tree: PyTree) -> PyTree:
  """None in the place of what is not chosen."""
  return jax.tree.map(lambda own, x: x if own else None, choice, tree)


def _join(choice: PyTree, chosen: PyTree, rest: PyTree) -> PyTree:
  return jax.tree.map(
      lambda own, x, other: x if own else other, choice, chosen, rest)


def _leaf_by_leaf(prefix: PyTree, tree: PyTree) -> PyTree:
  return trees.map_prefix(lambda x, leaf: x, prefix, tree)


def _chosen_part(choice: PyTree, message: Message) -> Message:
  """The message without the other leaves."""
  cost, sent = message.cost, message.sent
  if cost is not None:
    cost = Cost(*(_split(choice, tree) for tree in cost))
  if sent is not None:
    sent = _split(choice, _leaf_by_leaf(sent, message.update))
  return message._replace(
      update=_split(choice, message.update), cost=cost, sent=sent)


def _joined(
    choice: PyTree, message: Message, before: Message, after: Message
) -> Message:
  """The message after its chosen part was changed."""
  cost, sent, weight = after.cost, after.sent, after.weight
  if cost is not None:
    cost = Cost(*(_join(choice, x, rest) for x, rest in zip(
        cost, message.cost, strict=True)))
  if sent is not None or message.sent is not None:
    everything = jnp.ones((), bool)
    sent, others = (everything if x is None else x
                    for x in (sent, message.sent))
    sent = _join(choice, _leaf_by_leaf(sent, after.update),
                 _leaf_by_leaf(others, message.update))
  if weight is not before.weight:
    weight = _join(choice, _leaf_by_leaf(weight, after.update),
                   _leaf_by_leaf(message.weight, message.update))
  return after._replace(
      update=_join(choice, after.update, message.update), cost=cost, sent=sent,
      weight=weight)

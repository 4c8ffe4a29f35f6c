"""`downlink`: a transform of what the server sends, not of what it receives."""

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import kinds
from fedjax_sim.aggregation.chain import nobody
from fedjax_sim.aggregation.checked import checked
from fedjax_sim.aggregation.transform import transform
from fedjax_sim.core import costs, precision, trees
from fedjax_sim.core.types import Keys, Message, MessageTransform, PyTree


def downlink(part: MessageTransform) -> MessageTransform:
  """Encodes the floats that the server sends, and decodes them on the clients.

  All clients of a round receive the same, so only the key of the round counts.
  Integers, such as the round's number, travel as they are.

  Args:
    part: encodes and decodes; without state and memory, such as a rotation
      followed by rounding. What it does on the server does not matter. The
      pattern of an `on` sees paths such as variables/params/dense_0/kernel, of
      the floats only.

  Raises:
    ValueError: `part` is no transform of what clients send; when run, it has
      state or memory, or leaves everything as it is.
  """
  kinds.check('the part of downlink', part, MessageTransform, kinds.TRANSFORM)
  part = checked(part.name, part)
  if part.broadcast is not None:
    raise ValueError(
        'downlink takes a transform of messages, such as clip(1.0), got '
        f'{part.name!r}, which is a downlink itself.')

  def broadcast(message: PyTree, state, key):
    is_float = lambda x: jnp.issubdtype(x.dtype, jnp.floating)
    # None in the place of the others keeps the names of leaves.
    floats = jax.tree.map(lambda x: x if is_float(x) else None, message)
    others = jax.tree.map(lambda x: None if is_float(x) else x, message)
    decoded, bits = _there_and_back(part, floats, key)
    received = jax.tree.map(
        lambda x, new: precision.narrow(new, x) if is_float(x) else x, message,
        decoded)
    return received, state, bits + 8 * trees.num_bytes(others)

  return transform(f'downlink {part.name}', broadcast=broadcast)


def _there_and_back(part: MessageTransform, update: PyTree, key):
  """What arrives of an update, and the bits that it took."""
  message = Message(
      update, jnp.ones((), precision.scalar()), cost=costs.of(update),
      slot=jax.tree.map(lambda x: x[0], nobody(1)))
  state, memory = part.init(message, 1, key), part.client_init(message)
  if jax.tree.leaves((state, memory)):
    raise ValueError(
        f'downlink takes a transform without state and memory, {part.name!r} '
        'has some.')
  sent, _ = part.client(message, state, memory, Keys(key, key), nobody(1))
  decoded = part.decode(sent.update, state, key, update)
  before, after = jax.tree.leaves(update), jax.tree.leaves(decoded)
  if before and all(x is y for x, y in zip(before, after, strict=True)):
    raise ValueError(
        'downlink takes a transform that does something on clients, '
        f'{part.name!r} leaves their messages as they are.')
  return decoded, costs.total(sent.cost)

"""`downlink`: a transform of what the server sends, not of what it receives."""

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation.chain import nobody
from fedjax_sim.aggregation.transform import transform
from fedjax_sim.core import costs, trees
from fedjax_sim.core.types import Keys, Message, MessageTransform, PyTree


def downlink(part: MessageTransform) -> MessageTransform:
  """Encodes the floats that the server sends, and decodes them on the clients.

  All clients of a round receive the same, so only the key of the round counts.
  Integers, such as the round's number, travel as they are.

  Args:
    part: encodes and decodes; without state and memory, such as a rotation
      followed by quantization. What it does on the server does not matter.

  Raises:
    ValueError: when run, `part` has state or memory.
  """
  def broadcast(message: PyTree, state, key):
    leaves, treedef = jax.tree.flatten(message)
    floats = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
    decoded, bits = _there_and_back(part, floats, key)
    others = [x for x in leaves if not jnp.issubdtype(x.dtype, jnp.floating)]
    received = iter(decoded)
    leaves = [next(received) if jnp.issubdtype(x.dtype, jnp.floating) else x
              for x in leaves]
    return (jax.tree.unflatten(treedef, leaves), state,
            bits + 8 * trees.num_bytes(others))

  return transform(f'downlink {part.name}', broadcast=broadcast)


def _there_and_back(part: MessageTransform, update: list[jax.Array], key):
  """What arrives of an update, and the bits that it took."""
  message = Message(update, jnp.float32(1), cost=costs.of(update),
                    slot=jax.tree.map(lambda x: x[0], nobody(1)))
  state, memory = part.init(message, 1, key), part.client_init(message)
  if jax.tree.leaves((state, memory)):
    raise ValueError(
        f'downlink takes a transform without state and memory, {part.name!r} '
        'has some.')
  sent, _ = part.client(message, state, memory, Keys(key, key), nobody(1))
  return (part.decode(sent.update, state, key, update),
          costs.total(sent.cost))

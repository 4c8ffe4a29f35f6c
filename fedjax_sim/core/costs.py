"""What a message's update costs on the wire, in bits.

Costs are Python numbers as long as every client sends the same, so that they
take no part in a compiled program. Those that vary are float32, within one part
in a million; over clients they are added up in integers, without a further
error (`whole`, `joined`).
"""

from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core import coders, trees
from fedjax_sim.core.types import Message, PyTree

# The bits of the lower one of two integers.
_LOW = 10


class Cost(NamedTuple):
  """The bits of a message's update on the wire.

  Attributes:
    values: PyTree like the update, the bits of each leaf's values.
    extra: PyTree like the update, the bits of what goes along with them:
      indices, ranges, seeds, norms.

  Leaves are Python numbers where every client sends the same, else float32.
  """

  values: PyTree
  extra: PyTree


def of(update: PyTree, sent: PyTree | None = None) -> Cost:
  """The cost of an update that travels as it is.

  Args:
    update: PyTree of arrays, or of their shapes.
    sent: as in `Message`; what says which entries they are is not counted.
  """
  def bits(x):
    return x.size * np.dtype(x.dtype).itemsize * 8

  def sent_bits(mask, x):
    entries = jnp.broadcast_to(
        mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x.shape)
    return coders.total(entries) * (bits(x) / max(x.size, 1))

  values = (jax.tree.map(bits, update) if sent is None
            else trees.map_prefix(sent_bits, sent, update))
  return Cost(values, jax.tree.map(lambda x: 0, update))


def total(cost: Cost) -> float | jax.Array:
  """The bits of all leaves: a Python number if they all are."""
  return sum(jax.tree.leaves(cost))


def whole(bits: jax.Array) -> jax.Array:
  """Bits as int32 [2], which add up exactly to 2^41, 275 GB, and further.

  Args:
    bits: float32 [], rounded up to whole ones.
  """
  bits = jnp.ceil(bits)
  high = jnp.floor(bits / 2 ** _LOW)
  return jnp.stack([high, bits - high * 2 ** _LOW]).astype(jnp.int32)


def joined(total: np.ndarray) -> int:
  """The bits of a sum of what `whole` gives, on the host."""
  high, low = (int(x) for x in total)
  return (high << _LOW) + low


def joined_each(bits: np.ndarray) -> np.ndarray:
  """int64 [...], `joined` of each of [..., 2]."""
  high, low = np.moveaxis(np.asarray(bits, np.int64), -1, 0)
  return (high << _LOW) + low


def beside_update(message: Message) -> int:
  """The bits of what a message holds besides its update.

  That is weights and sums, in full, and the number of a group in 32 bits.
  Where `sent` is given, weights follow it: they are one number times that.
  """
  group = 0 if message.group is None else 32
  weight = message.weight
  if message.sent is not None:
    weight = jax.tree.leaves(
        jax.tree.map(lambda x: jnp.zeros((), x.dtype), weight))[0]
  return 8 * trees.num_bytes((weight, message.sums)) + group

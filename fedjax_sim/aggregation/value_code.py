"""`value_code`: a transform that encodes an update's values in fewer bits."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import contraction, vectors
from fedjax_sim.aggregation.encodings import Kind
from fedjax_sim.aggregation.transform import transform
from fedjax_sim.core import precision
from fedjax_sim.core.types import Keys, Message, MessageTransform

# Of a client's own random draws that the server repeats. What all clients of a
# round share comes from the round's number, which they have received.
SEED = 32


class Vector(NamedTuple):
  """What is coded at once: a leaf, or all leaves one after another.

  Attributes:
    values: [n], wide floats, n > 0; those that do not travel are zero.
    sent: bool [n], the values that travel; None for all.
  """

  values: jax.Array
  sent: jax.Array | None

  @property
  def count(self) -> int | jax.Array:
    """How many values travel: a Python number if all do, else float32 []."""
    if self.sent is None:
      return self.values.size
    return jnp.sum(self.sent, dtype=jnp.int32).astype(jnp.float32)

  def among_sent(self, reduce: Callable, otherwise: float) -> jax.Array:
    """`reduce` of the values that travel, with `otherwise` for the others."""
    if self.sent is None:
      return reduce(self.values)
    return reduce(jnp.where(self.sent, self.values, otherwise))

  @property
  def scalar_bits(self) -> int:
    """The bits of a scalar, such as a norm, that goes along."""
    return 8 * self.values.dtype.itemsize


class Coded(NamedTuple):
  """A vector that was coded.

  Attributes:
    values: [n], what the server reads.
    bits: of the values, all together; a Python number where it is the same
      for every client, else float32 [].
    extra: bits of what goes along with them, such as a norm.
  """

  values: jax.Array
  bits: float | jax.Array
  extra: float | jax.Array


def value_code(
    name: str, code: Callable[[Vector, jax.Array], Coded], *,
    over: str = 'leaf', seed: int = 0,
    encodes: tuple[Kind, ...] = (Kind.CODES,),
    lacks: str | Callable[[int], str] = '',
) -> MessageTransform:
  """A transform of each client's update into what the server reads of it.

  What is read is the float, with the scale of its client, so that there is
  nothing to decode after the mean. Only the floating leaves are coded; others
  travel as they are. Values are wide (`core.precision`) after it. A vector that
  is not finite is read as NaN, so that the round reports it.

  Args:
    name: of the transform.
    code: `(vector, key of the client) -> Coded`.
    over: 'leaf' codes each leaf on its own, 'vector' all of them as one; then
      the bits stand at the first leaf.
    seed: bits that are sent once with a message, for the code's draws.
    encodes: as in `transform`. With `Kind.MIXES` all values must travel.
    lacks: what it lacks to be a contraction (`contraction`), or that for a
      vector of n values.
  """
  vectors.check_over(over)

  def client(message: Message, state, memory, keys: Keys, cohort):
    del state, cohort
    if Kind.MIXES in encodes:
      vectors.check_all_sent(name, message)
    given = vectors.of(message.update, over)
    sent = vectors.sent_of(message, over)
    coded = []
    for i, values in enumerate(given):
      vector = Vector(precision.wide(values), sent and sent[i])
      one = code(vector, jax.random.fold_in(keys.client, i))
      coded.append(one._replace(
          values=_read(vector, one.values),
          extra=one.extra + (0 if i else seed)))
    update = vectors.put(message.update, [one.values for one in coded], over,
                         message.update)
    return message._replace(
        update=update, cost=vectors.coded_cost(
            message, [one.bits for one in coded],
            [one.extra for one in coded])), memory

  return transform(
      name, client=client, encodes=encodes, lacks=lacks if isinstance(
          lacks, str) else contraction.of_vectors(over, lacks))


def _read(vector: Vector, values: jax.Array) -> jax.Array:
  if vector.sent is not None:
    values = jnp.where(vector.sent, values, 0)
  finite = jnp.all(jnp.isfinite(vector.values))
  return jnp.where(finite, values, jnp.nan)


def rounded_randomly(x: jax.Array, key: jax.Array) -> jax.Array:
  """x to one of the two whole numbers around it, with mean x."""
  low = jnp.floor(x)
  up = jax.random.uniform(key, x.shape, jnp.float32) < x - low
  return low + up

"""Floats of fewer bits.

    sent_k = update_k rounded to a narrower dtype

to the nearest, which is biased by up to half a unit in the last place, 2^-9 of
a value in bfloat16; or at random to one of the two neighbours, with the value
as the mean, which is unbiased: Gupta, Agrawal, Gopalakrishnan, Narayanan, "Deep
Learning with Limited Numerical Precision" (2015), section 3. Sums and means of
what arrives are wide (`core.precision`).
"""

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import vectors
from fedjax_sim.aggregation.encodings import Kind
from fedjax_sim.aggregation.transform import transform
from fedjax_sim.core import checks, costs, precision
from fedjax_sim.core.types import Keys, Message, MessageTransform, PyTree


def cast(
    dtype: str = 'bfloat16', *, stochastic: bool = False
) -> MessageTransform:
  """Sends floats in another dtype, where it has fewer bits than their own.

  Args:
    dtype: 'bfloat16', or 'float16', in which values above 65504 are infinite,
      and the round reports it.
    stochastic: rounds at random, in bfloat16 only.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.one_of('dtype', dtype, ('bfloat16', 'float16'))
  checks.boolean('stochastic', stochastic)
  if stochastic and dtype != 'bfloat16':
    raise ValueError("stochastic must be False unless dtype is 'bfloat16', got "
                     f'dtype {dtype!r}.')

  def client(message: Message, state, memory, keys: Keys, cohort):
    del state, cohort
    new = []
    for i, x in enumerate(vectors.floats(message.update, message.update)):
      key = jax.random.fold_in(keys.client, i)
      if x.dtype.itemsize > jnp.dtype(dtype).itemsize:
        x = _to_bfloat16(x, key) if stochastic else x.astype(dtype)
      new.append(x)
    update = vectors.put_floats(message.update, new, message.update)
    cost = message.cost
    if cost is not None:
      cost = cost._replace(values=costs.of(update, message.sent).values)
    return message._replace(update=update, cost=cost), memory

  def decode(update: PyTree, state, key, like: PyTree) -> PyTree:
    del state, key
    wide = [u.astype(precision.wide_dtype(x.dtype)) for u, x in zip(
        vectors.floats(update, like), vectors.floats(like, like), strict=True)]
    return vectors.put_floats(update, wide, like)

  return transform('cast', client=client, decode=decode, encodes=(Kind.CODES,))


def _to_bfloat16(x: jax.Array, key: jax.Array) -> jax.Array:
  """Up or down at random: a bfloat16 is the upper half of a float32.

  With random bits added to the lower half, it carries into the upper one as
  often as it should.
  """
  single = x.astype(jnp.float32)
  word = jax.lax.bitcast_convert_type(single, jnp.uint32)
  low = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
  rounded = jax.lax.bitcast_convert_type(
      (word + low) & jnp.uint32(0xFFFF0000), jnp.float32)
  return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.bfloat16)

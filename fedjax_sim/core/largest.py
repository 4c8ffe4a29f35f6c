"""The k largest of an array, without a sort."""

from collections.abc import Callable

import jax
from jax import numpy as jnp


def largest(keys: jax.Array, k: int) -> jax.Array:
  """bool [n], True at the k largest of all; of equal ones at the first.

  The k-th largest is found bit by bit, and so is the place up to which those
  equal to it are taken. That takes as many passes as the numbers have bits,
  whatever k is; a sort takes longer, and so does `jax.lax.top_k`.

  Args:
    keys: unsigned integers [n].
    k: from 1 to n.
  """
  count = lambda mask: jnp.sum(mask, dtype=jnp.int32)
  threshold = _last(keys.dtype, 8 * keys.dtype.itemsize,
                    lambda t: count(keys >= t) >= k)
  above, equal = keys > threshold, keys == threshold
  place, missing = jnp.arange(keys.size), k - count(above)
  end = _last(place.dtype, keys.size.bit_length(),
              lambda e: count(equal & (place < e)) <= missing)
  return above | (equal & (place < end))


def _last(dtype, bits: int, holds: Callable) -> jax.Array:
  """The largest number of so many bits for which a falling property holds."""
  def add_bit(i, number):
    higher = number | jnp.ones((), dtype) << jnp.asarray(bits - 1 - i, dtype)
    return jnp.where(holds(higher), higher, number)
  return jax.lax.fori_loop(0, bits, add_bit, jnp.zeros((), dtype))

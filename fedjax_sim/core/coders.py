"""The bits that coders take for integers, digits and masks.

These functions count inside of a compiled round, also under `vmap`.
`core/bit_streams.py` has the same coders in NumPy, which really write the bits
and read them again: what is counted here is what is written there.

A count that depends on data is float32 []. It is exact up to 2^24 bits, and
within one part in a million above.
"""

import jax
from jax import numpy as jnp

# Bits of an index into rows of a sum, and of a word that an arithmetic coder
# ends with.
_ROW = 16
_WORD = 32


def total(counts: jax.Array) -> jax.Array:
  """The sum of non-negative integers or bools, as float32 [].

  A plain sum in float32 stands still at 2^24 when ones are added.

  Args:
    counts: of any shape, each below 2^16 on average in a row of 2^16.
  """
  flat = counts.astype(jnp.uint32).ravel()
  rows = jnp.pad(flat, (0, -flat.size % 2 ** _ROW)).reshape(-1, 2 ** _ROW)
  sums = jnp.sum(rows, axis=1, dtype=jnp.uint32)
  high = jnp.sum(sums >> _ROW, dtype=jnp.uint32).astype(jnp.float32)
  low = jnp.sum(sums & (2 ** _ROW - 1), dtype=jnp.uint32)
  return high * 2 ** _ROW + low.astype(jnp.float32)


def digits(size: int, base: int) -> int:
  """Digits below `base`, as many in a word of 32 bits as there is room for.

  With 3 levels these are 20 in 32 bits, 1.6 bits each: log2 3 = 1.585 is
  attained by no packing of whole digits. With a power of two each takes its
  log2, up to what is left of a word.

  Args:
    size: how many.
    base: 2 to 2^32.
  """
  return -(-size // digits_per_word(base)) * _WORD


def digits_per_word(base: int) -> int:
  """How many digits below `base` 32 bits hold."""
  count = 1
  while base ** (count + 1) <= 2 ** _WORD:
    count += 1
  return count


def gamma(values: jax.Array) -> jax.Array:
  """Elias' gamma code: 2 floor(log2 n) + 1 bits for each n.

  Elias, "Universal Codeword Sets and Representations of the Integers" (1975).

  Args:
    values: integers from 1 on.
  """
  return total(2 * _floor_log2(values) + 1)


def omega(values: jax.Array) -> jax.Array:
  """Elias' omega code, which says the length of a length, and so on.

  It is shorter than gamma for numbers of 32 and more. QSGD writes its levels
  with it.

  Args:
    values: integers from 1 on.
  """
  bits = jnp.ones(values.shape, jnp.uint32)
  for _ in range(5):  # 2^32 - 1 has length 32, 31 has 5, 4 has 3, 2 has 2.
    length = _floor_log2(values)
    bits += jnp.where(values > 1, length + 1, 0).astype(jnp.uint32)
    values = jnp.where(values > 1, length, values)
  return total(bits)


def rice(values: jax.Array, parameter: jax.Array | int) -> jax.Array:
  """Golomb-Rice code: n >> parameter in unary, then the low bits.

  Args:
    values: integers from 0 on.
    parameter: the number of low bits; int32 [], or a Python number.
  """
  return total((values >> parameter) + 1 + parameter)


def positions(mask: jax.Array) -> jax.Array:
  """The places of what is True: how many, and the lengths of runs between.

  Their number in gamma code, then for each the run of False before it, in Rice
  code with `rice_parameter`. It is about as long as the entropy of a random
  mask, log2 (size over count), and never much more than a bit for an entry.

  Args:
    mask: bool, of any shape.
  """
  mask = mask.ravel()
  place = jnp.arange(mask.size, dtype=jnp.int32)
  count = jnp.sum(mask, dtype=jnp.int32)
  seen = jax.lax.cummax(jnp.where(mask, place, -1))
  before = jnp.concatenate([jnp.full(1, -1, jnp.int32), seen])[:-1]
  parameter = rice_parameter(mask.size, count)
  lengths = ((place - before - 1) >> parameter) + 1 + parameter
  return gamma(count + 1) + total(jnp.where(mask, lengths, 0))


def rice_parameter(size: int, count: jax.Array) -> jax.Array:
  """floor(log2(size / count - 1/2)), close to the best for random places.

  That changes from k - 1 to k where size / count - 1/2 is 1.04 2^k. Kiely,
  "Selecting the Golomb Parameter in Rice Coding" (2004), section 2.
  """
  count = jnp.maximum(count, 1)
  return _floor_log2(jnp.maximum((2 * size - count) // (2 * count), 1))


def entropy(symbols: jax.Array, num_symbols: int) -> jax.Array:
  """What an arithmetic coder takes: sum_s n_s log2(n / n_s), and its model.

  The model is how often each symbol comes, n_s + 1 in gamma code. The coder
  ends with a word of 32 bits.

  Args:
    symbols: integers below `num_symbols`, of any shape; larger ones are left
      out.
    num_symbols: how many there may be.
  """
  counts = jnp.zeros(num_symbols, jnp.int32).at[symbols.ravel()].add(
      1, mode='drop')
  each = counts * jnp.log2(jnp.sum(counts) / jnp.maximum(counts, 1))
  return gamma(counts + 1) + jnp.sum(each, dtype=jnp.float32) + _WORD


def _floor_log2(values: jax.Array) -> jax.Array:
  """Of integers from 1 on, exactly; int32."""
  return 31 - jax.lax.clz(values.astype(jnp.uint32)).astype(jnp.int32)

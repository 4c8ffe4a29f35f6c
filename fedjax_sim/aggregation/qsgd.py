"""QSGD: random levels of a vector's length.

With s levels and v a leaf or the whole update,

    sent_i = |v| sign(v_i) xi_i / s

where xi_i is |v_i| s / |v|, rounded down or up at random with that as its mean.
So E sent = v and Var sent_i = (|v| / s)^2 f (1 - f), f being what |v_i| s / |v|
has after the point; altogether at most min(n / s^2, sqrt(n) / s) |v|^2.
Alistarh, Grubic, Li, Tomioka, Vojnovic, "QSGD: Communication-Efficient SGD via
Gradient Quantization and Encoding" (2017), section 3.1, lemma 3.1; its coding
is in section 3.2.

It is a contraction where n < 4 s^2: f (1 - f) <= 1 / 4 makes the error at most
n / (4 s^2) |v|^2. Where n >= 4 s^2, vectors of n equal values have sqrt(n) / s
- 1, which is 1 or more.
"""

import math

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import symbols
from fedjax_sim.aggregation.value_code import (
    Coded,
    Vector,
    rounded_randomly,
    value_code,
)
from fedjax_sim.core import checks, coders
from fedjax_sim.core.types import MessageTransform

_MOST_LEVELS = 2 ** 15 - 1  # With a sign, 16 bits.


def qsgd(
    levels: int, *, coder: str = 'elias', over: str = 'leaf'
) -> MessageTransform:
  """Rounds each value to one of `levels` parts of the vector's length.

  What travels: the norm, a float, for each vector, and its levels and signs.
  Where `levels` is small most of them are zero.

  Args:
    levels: s, 1 to 32767.
    coder: 'elias' is that of the paper: places of what is not zero, signs, and
      levels in Elias' omega code, or, where it is shorter, levels + 1 of all
      values and the signs of those that are not zero; one bit says which.
      Places are runs in Rice code, where the paper has omega, which is longer.
      'fixed' has the same for each value, 'entropy' is an arithmetic coder.
    over: 'leaf' takes each floating leaf as v, 'vector' all of them as one; the
      norm, and so results, differ.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.at_least('levels', levels, 1, _MOST_LEVELS)
  checks.one_of('coder', coder, ('elias', *symbols.CODERS))

  def code(vector: Vector, key) -> Coded:
    norm = jnp.linalg.norm(vector.values)
    part = jnp.abs(vector.values) / jnp.where(norm > 0, norm, 1) * levels
    level = jnp.minimum(rounded_randomly(part, key), levels)
    signed = jnp.sign(vector.values) * level
    if coder == 'elias':
      bits = elias_bits(vector, level.astype(jnp.int32))
    else:
      number = signed.astype(jnp.int32) + levels
      bits = symbols.bits(coder, vector, number, 2 * levels + 1)
    return Coded(norm / levels * signed, bits, vector.scalar_bits)

  def lacks(n: int) -> str:
    if n < 4 * levels ** 2:
      return ''
    need = math.isqrt(n // 4) + 1
    return f'for {n} values with levels={need} or more, or after rotate'

  return value_code('qsgd', code, over=over, lacks=lacks)


def elias_bits(vector: Vector, level: jax.Array) -> jax.Array:
  """The shorter one of the two codes of levels [n], and the bit before it."""
  used = level > 0
  number = coders.total(used)
  unused = vector.values.size - number
  # The omega code of one, a bit, stands in for what is not written.
  sparse = coders.positions(used) + (
      coders.omega(jnp.maximum(level, 1)) - unused)
  dense = coders.omega(level + 1) - (vector.values.size - vector.count)
  return 1 + number + jnp.minimum(sparse, dense)

"""TernGrad: minus one, zero or one, times the largest value.

    g_i  = clip(v_i, -c sigma, c sigma),    s = max_i |g_i|
    sent_i = s sign(g_i) b_i,    b_i = 1 with probability |g_i| / s

v is a leaf or the whole update, sigma the standard deviation of its values.
Wen, Xu, Yan, Wu, Wang, Chen, Li, "TernGrad: Ternary Gradients to Reduce
Communication in Distributed Deep Learning" (2017), section 3: equations 1 to 3,
and "layer-wise ternarizing and gradient clipping", with c = 2.5.

E sent = g: unbiased without clipping, of g with it. The variance of a value is
|g_i| (s - |g_i|). Each client has its own s; the paper's workers may share the
largest.

It is no contraction of more than 8 values: of 1 and eight values of 1/4, signs
such that their mean is zero and c >= sqrt(6) clips nothing, the error is
8 (1/4) (3/4) = 3/2 = |v|^2.
"""

import math

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import symbols
from fedjax_sim.aggregation.value_code import Coded, Vector, value_code
from fedjax_sim.core import checks, specs
from fedjax_sim.core.types import MessageTransform

# Of 1 and eight values of 1/4, in units of their mean square.
_WIDE = math.sqrt(6)


@specs.traceable('clip')
def terngrad(
    clip: float | None = 2.5, *, coder: str = 'fixed', over: str = 'leaf'
) -> MessageTransform:
  """Sends one of three values for each, at random.

  What travels: a float for each vector, and for each value a digit below three.

  Args:
    clip: c, positive; None for no clipping. May be traced.
    coder: 'fixed' packs 20 digits into 32 bits, 1.6 bits each, near the log2 3
      = 1.585 that no packing attains; 'entropy' is an arithmetic coder, which
      takes less where most are zero.
    over: 'leaf' takes each floating leaf as v, as the paper does; 'vector' all
      of them as one, which changes results.

  Raises:
    ValueError: an argument is out of range.
  """
  if clip is not None:
    checks.positive('clip', clip)
  symbols.check(coder)

  def code(vector: Vector, key) -> Coded:
    values = vector.values
    if clip is not None:
      bound = clip * _deviation(vector)
      values = jnp.clip(values, -bound, bound)
    scale = jnp.max(jnp.abs(values))
    drawn = jax.random.uniform(key, values.shape, jnp.float32)
    ternary = jnp.sign(values) * (drawn * scale < jnp.abs(values))
    bits = symbols.bits(coder, vector, ternary.astype(jnp.int32) + 1, 3)
    return Coded(scale * ternary, bits, vector.scalar_bits)

  def lacks(n: int) -> str:
    wide = clip is None or (not checks.is_traced(clip) and clip >= _WIDE)
    return ('for at most 8 values; sign_sgd(scaled=True) does so for any number'
            if wide and n > 8 else '')

  return value_code('terngrad', code, over=over, lacks=lacks)


def _deviation(vector: Vector) -> jax.Array:
  """The standard deviation of the values that travel."""
  count = jnp.maximum(vector.count, 1)
  mean = jnp.sum(vector.values) / count
  square = vector.among_sent(lambda x: x, mean) - mean
  return jnp.sqrt(jnp.sum(jnp.square(square)) / count)

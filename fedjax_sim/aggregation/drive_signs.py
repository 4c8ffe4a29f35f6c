"""DRIVE: the signs of a rotated vector, and one float.

With R_k a random rotation of client k's own, in this round, and z = R_k v,

    sent_k = S R_k^T sign(z),    S = |v|^2 / |z|_1

v is a leaf or the whole update. Vargaftik, Ben-Basat, Portnoy, Mendelson,
Ben-Itzhak, Mitzenmacher, "DRIVE: One-bit Distributed Mean Estimation" (2021),
algorithm 1, with theorem 3's scale; that of theorem 1, S = |z|_1 / n, has the
least error of one message and is biased.

R_k is the randomised Hadamard transform (`hadamard`), as in section 6 of the
paper. With uniformly random rotations the first scale is unbiased. With these,
the part of `sent_k` along v is v, whatever is drawn, and the rest has a mean
near zero where v has many values and none stands out. A single value that makes
up most of |v| leaves a bias: its rotation has equal values. Rotations differ
from client to client, so that the errors of a mean are independent, and fall
with the number of clients; so the server rotates each message back, before the
mean.
"""

from collections.abc import Callable

from jax import numpy as jnp

from fedjax_sim.aggregation import hadamard
from fedjax_sim.aggregation.encodings import Kind
from fedjax_sim.aggregation.value_code import SEED, Coded, Vector, value_code
from fedjax_sim.core import checks
from fedjax_sim.core.types import MessageTransform


def drive(*, unbiased: bool = True, over: str = 'leaf') -> MessageTransform:
  """Sends a bit for each value of a rotated vector.

  What travels: a bit for each of the P values, n padded to a power of two; a
  float, S, for each vector; a seed of 32 bits for the rotations of a client.
  It takes all values of an update, as they are before any other code.

  Args:
    unbiased: False takes the scale of the least error. A mean of many clients
      is better with True, error feedback with False.
    over: 'leaf' rotates each floating leaf on its own, with its own S; 'vector'
      all of them as one, which changes results.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.boolean('unbiased', unbiased)
  signs = lambda z: (jnp.where(z < 0, -1, 1).astype(z.dtype), z.size)
  return rotated_code('drive', signs, unbiased=unbiased, over=over)


def rotated_code(
    name: str, rounded: Callable, *, unbiased: bool, over: str
) -> MessageTransform:
  """A code of rotated values, scaled to fit the vector.

  Args:
    name: of the transform.
    rounded: `(z [P]) -> (values [P], bits)`, of z with mean square 1. Values
      have the signs of z, and are not zero.
    unbiased: S = |v|^2 / <z, values>, else <z, values> / |values|^2.
    over: as in `value_code`.
  """
  def code(vector: Vector, key) -> Coded:
    v = vector.values
    z = hadamard.rotate(v, key)
    norm = jnp.linalg.norm(v)
    unit = jnp.where(norm > 0, norm, 1) / jnp.sqrt(z.size)
    values, bits = rounded(z / unit)
    product = jnp.vdot(z, values)
    scale = (norm ** 2 / jnp.where(product > 0, product, 1) if unbiased
             else product / jnp.vdot(values, values))
    return Coded(hadamard.unrotate(scale * values, key, v.size), bits,
                 vector.scalar_bits)

  return value_code(name, code, over=over, seed=SEED,
                    encodes=(Kind.MIXES, Kind.CODES))

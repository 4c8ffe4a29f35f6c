"""The randomised Hadamard transform, a rotation that is quick to compute.

R x = H D x / sqrt(P), with D random signs, H the Hadamard matrix of order P and
x padded with zeros to P, the next power of two. H is symmetric, H H = P I, so
R is orthogonal: x = D H (R x) / sqrt(P). Afterwards values are about as large
as each other, near to normal with variance |x|^2 / P.
"""

import functools
import math

import jax
import numpy as np
from jax import numpy as jnp

# log2 of the largest factor of H. Products with small matrices are what every
# device does best; larger ones would need fewer passes over the vector, and
# more arithmetic.
_FACTOR = 6


def padded_size(size: int) -> int:
  """The next power of two."""
  return 1 << (size - 1).bit_length()


def rotate(x: jax.Array, key: jax.Array) -> jax.Array:
  """R x: [n] -> [P].

  Args:
    x: floats [n], n > 0.
    key: of the signs.
  """
  padded = jnp.pad(x, (0, padded_size(x.size) - x.size))
  return transform(padded * signs(key, padded.size, x.dtype))


def unrotate(y: jax.Array, key: jax.Array, size: int) -> jax.Array:
  """The first `size` values of R^T y: [P] -> [n]."""
  return (signs(key, y.size, y.dtype) * transform(y))[:size]


def transform(x: jax.Array) -> jax.Array:
  """H x / sqrt(P), H in Sylvester's order, of x [P], P a power of two.

  H is the Kronecker product of small ones. With x as a matrix, a product with
  one of them and a transpose take an axis from the last place to the first.
  """
  for log in _factors(x.size.bit_length() - 1):
    small = jnp.asarray(_matrix(log), x.dtype)
    x = jnp.dot(x.reshape(-1, len(small)), small,
                precision=jax.lax.Precision.HIGHEST).T
  return x.ravel() / math.sqrt(x.size)


def signs(key: jax.Array, size: int, dtype) -> jax.Array:
  """Fair random +1 and -1 [size], 32 from each word that is drawn."""
  words = jax.random.bits(key, (-(-size // 32),), jnp.uint32)
  bits = words[:, None] >> jnp.arange(32, dtype=jnp.uint32)[None] & 1
  return 1 - 2 * bits.ravel()[:size].astype(dtype)


def _factors(log: int) -> list[int]:
  """`log` in as few summands as `_FACTOR` allows, as even as possible."""
  count = -(-log // _FACTOR)
  return [(log + i) // count for i in range(count)]


@functools.cache
def _matrix(log: int) -> np.ndarray:
  matrix = np.ones((1, 1), np.float32)
  for _ in range(log):
    matrix = np.kron(np.array([[1, 1], [1, -1]], np.float32), matrix)
  return matrix

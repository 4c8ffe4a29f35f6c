"""`random_mask`: of each matrix, only entries of a random pattern are trained.

    H is zero outside of S,   S of fraction * size entries, drawn without
                              replacement for each client and round

on each client: local training of the entries in S, the others stay at those of
the server's model. A client sends the entries in S and the seed of S. Konečný,
McMahan, Yu, Richtárik, Suresh, Bacon, "Federated Learning: Strategies for
Improving Communication Efficiency" (2016), section 2, random mask. As there,
the mean over clients counts the zeros too.

The optimizer sees weights and gradients that are zero outside of S, so that
weight decay and clipped norms do not affect other entries. With fraction 1 it
is plain training, bit for bit.
"""

import jax
from jax import numpy as jnp

from fedjax_sim.clients.restrictions.restriction import (
    Restriction,
    Trained,
    matrix_shape,
)
from fedjax_sim.core import checks
from fedjax_sim.core.largest import largest


def random_mask(fraction: float) -> Restriction:
  """Restricts the training of matrices and convolutions to some entries.

  Biases travel whole.

  Args:
    fraction: of the entries, in (0, 1]; of a matrix
      round(fraction * size) are trained.

  Raises:
    ValueError: `fraction` is out of range; when built, it rounds to no entry
      of a matrix.
  """
  checks.share('fraction', fraction)

  def trained(path: str, x: jax.Array, key) -> Trained | None:
    if matrix_shape(x) is None:
      return None
    count = round(fraction * x.size)
    if not count:
      raise ValueError(
          f'fraction must be more than 0.5 / {x.size}, or none of the {x.size} '
          f'entries of {path} would be trained, got {fraction}.')
    if count == x.size:
      return Trained(x, lambda z: z, lambda g: g, drawn=False)
    mask = draw(key, x.size, count).reshape(x.shape)
    inside = lambda array: jnp.where(mask, array, jnp.zeros_like(array))
    return Trained(
        inside(x), lambda z: jnp.where(mask, z, x), inside, mask, count)

  return Restriction(f'random_mask({fraction})', trained)


def draw(key: jax.Array, size: int, count: int) -> jax.Array:
  """bool [size], True at so many places, drawn without replacement."""
  return largest(jax.random.bits(key, (size,), jnp.uint32), count)

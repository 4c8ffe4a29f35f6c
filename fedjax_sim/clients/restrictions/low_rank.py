"""`low_rank`: the update of each matrix is a product of two thin ones.

    H = A B,   A [rows, rank] random, not trained; B [rank, columns], from 0

on each client: local training of B, with gradient A' G where G is that in the
matrix. A client sends B and the seed of A. Konečný, McMahan, Yu, Richtárik,
Suresh, Bacon, "Federated Learning: Strategies for Improving Communication
Efficiency" (2016), section 2, low rank. A is drawn for each client and round.

The paper does not say how A is distributed. Here its columns are orthonormal,
of a uniformly random direction: A'A = 1, and the mean of A A' is rank / rows.
A step of plain SGD then changes the matrix by -eta A A' G, the step of the
whole model projected on the columns of A; the mean over A is rank / rows of it.
At full rank A A' = 1, and SGD, with momentum or not, is that of the whole
model, up to rounding. An adaptive optimizer scales the entries of B, so it is
another one even then.
"""

import jax
from jax import numpy as jnp

from fedjax_sim.clients.restrictions.restriction import (
    Restriction,
    Trained,
    matrix_shape,
)
from fedjax_sim.core import checks, precision


def low_rank(rank: int) -> Restriction:
  """Restricts the updates of matrices to A B with `rank` columns of A.

  Biases travel whole. A kernel of a convolution is a matrix of h * w * inputs
  rows. A matrix with no more columns than `rank` is restricted all the same:
  its update lies in the span of the columns of A.

  Args:
    rank: at least 1.

  Raises:
    ValueError: `rank` is out of range; when run, a matrix has fewer rows.
  """
  checks.positive_int('rank', rank)

  def trained(path: str, x: jax.Array, key) -> Trained | None:
    shape = matrix_shape(x)
    if shape is None:
      return None
    rows, columns = shape
    if rank > rows:
      raise ValueError(f'rank must be at most {rows}, the rows of {path} as a '
                       f'matrix [{rows}, {columns}], got {rank}.')
    # Drawn alike whatever the dtype.
    normal = jax.random.normal(key, (rows, rank), jnp.float32)
    a = jnp.linalg.qr(normal.astype(precision.wide_dtype(x.dtype)))[0]
    wide = precision.wide(x)
    expand = lambda b: (
        wide + (a @ precision.wide(b)).reshape(x.shape)).astype(x.dtype)
    return Trained(jnp.zeros((rank, columns), x.dtype), expand,
                   lambda g: a.T @ g.reshape(shape))

  return Restriction(f'low_rank({rank})', trained, recodes=True)

"""Minimal filtering along one axis: fewer products for a sliding sum.

m outputs of a filter of r taps need m + r - 1 products instead of m r: inputs
and filter are turned into values of polynomials at m + r - 1 points, these
multiplied, and the products turned back (Toom 1963, Cook 1966; Winograd 1980;
for convolutional networks Lavin & Gray 2016, arXiv:1509.09308, section 4.1).
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import lax

# In the order in which they are used; the last point is infinity. With these
# up to seven points lose one digit of float32.
_POINTS = (0, 1, -1, 2, -2, 0.5, -0.5)

# Outputs a tile by taps: of the numbers tried (2 to 5) the fastest on 2 CPU
# cores; more of them would need more points.
TILES = {3: 4, 4: 3, 5: 3}


class Transform(NamedTuple):
  """n = m + r - 1: y = outputs ((inputs x) * (taps w)) filters x with w.

  Attributes:
    inputs: float64 [n, n].
    taps: float64 [n, r].
    outputs: float64 [m, n].
  """

  inputs: np.ndarray
  taps: np.ndarray
  outputs: np.ndarray


@functools.cache
def transform(tile: int, taps: int) -> Transform:
  """The transform of m = `tile` outputs of r = `taps`, n at most 8."""
  size = tile + taps - 1
  values = lambda degree: np.array(
      [[float(p) ** k for k in range(degree)] for p in _POINTS[:size - 1]]
      + [[0.0] * (degree - 1) + [1.0]])
  # The product of two polynomials is known by its values at n points; what
  # turns these back into coefficients is, transposed, applied to the inputs.
  inputs = np.linalg.inv(values(size).T)
  inputs[np.abs(inputs) < 1e-12] = 0
  # Both factors of about one size: the inputs' rows are at most 4.
  scale = 4 / np.abs(inputs).max(axis=1, keepdims=True)
  return Transform(inputs * scale, values(taps) / scale, values(tile).T)


def combine(matrix: np.ndarray, xs: Sequence[jax.Array]) -> list[jax.Array]:
  """For each row of the matrix, the arrays' sum with its coefficients."""
  def term(coefficient, x):
    if coefficient in (1, -1):
      return x if coefficient == 1 else -x
    return x * np.asarray(coefficient, x.dtype)
  return [
      functools.reduce(lax.add, [
          term(c, x) for c, x in zip(row, xs, strict=True) if c != 0])
      for row in matrix]

"""Transposed convolution: one whose inputs have zeros between them.

Only every d-th tap of the kernel meets an input where the inputs lie d apart,
and which ones depends on the output's place modulo d. So the outputs of each
remainder are a plain convolution with every d-th tap, and no product with a
zero is computed.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    frame: Any,
    stretch: Sequence[int],
    run: Callable[[jax.Array, jax.Array, Any], jax.Array],
) -> jax.Array:
  """Convolves `x` with zeros between its entries.

  Args:
    x: [B, spatial..., c_in].
    kernel: [kernel..., c_in // groups, c_out].
    frame: `strides`, `padding`, `dilation` and `out` of each spatial dimension,
      of the stretched inputs.
    stretch: distance of the inputs in each spatial dimension.
    run: the plain convolution: `(x, kernel, frame) -> [B, out..., c_out]`.

  Returns:
    [B, out..., c_out].
  """
  whole = all(taps >= gap for taps, gap
              in zip(kernel.shape[:-2], stretch, strict=True))
  if whole and max(*frame.strides, *frame.dilation) == 1:
    return _by_remainders(x, kernel, frame, stretch, run, 0)
  gaps = [(0, 0, gap - 1) for gap in (1, *stretch, 1)]
  return run(lax.pad(x, jnp.zeros((), x.dtype), gaps), kernel, frame)


def _by_remainders(x, kernel, frame, stretch, run, dimension):
  """Splits the outputs along one dimension after another.

  Output d * q + r sees with tap d * j + (low - r) % d the input q + j - begin.
  """
  if dimension == len(stretch):
    return run(x, kernel, frame)
  gap, out = stretch[dimension], frame.out[dimension]
  if gap == 1:
    return _by_remainders(x, kernel, frame, stretch, run, dimension + 1)
  low, _ = frame.padding[dimension]
  width = -(-out // gap)
  parts = []
  for remainder in range(gap):
    first = (low - remainder) % gap
    taps = lax.slice_in_dim(kernel, first, None, gap, axis=dimension)
    begin = (low - remainder - first) // gap
    end = width + taps.shape[dimension] - 1 - x.shape[dimension + 1] - begin
    inner = frame._replace(
        padding=_with(frame.padding, dimension, (begin, end)),
        out=_with(frame.out, dimension, width))
    parts.append(_by_remainders(x, taps, inner, stretch, run, dimension + 1))
  axis = dimension + 1
  y = jnp.stack(parts, axis + 1)
  y = y.reshape(*y.shape[:axis], width * gap, *y.shape[axis + 2:])
  return lax.slice_in_dim(y, 0, out, axis=axis)


def _with(entries, index, value):
  return (*itertools.islice(entries, index), value, *entries[index + 1:])

"""Pooling that stays fast inside loops: element-wise, on slices.

Inside a loop XLA's CPU backend runs the gradient of a max-pooling by windows
many times slower than selects between slices (benchmarks/kernels.py).
`max_pool` and `avg_pool` take the place of flax's, and `max_windows` and its
like that of `lax.reduce_window`.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from fedjax_sim.models import convolution

# Larger windows that don't overlap are halved until they are as small.
_MOST_AT_ONCE = 8

# Of windows with more entries along an axis each would become an operation.
_MOST_ENTRIES = 32


def max_pool(
    inputs: jax.Array,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str | Sequence[tuple[int, int]] = 'VALID',
) -> jax.Array:
  """The maximum of each window; a drop-in for `flax.linen.max_pool`.

  Where several entries of a window are largest, the first one in row-major
  order gets the whole gradient, as in lax. NaN wins over any number.

  Args:
    inputs: float [batch..., spatial..., channels].
    window_shape: the window's size in each spatial dimension.
    strides: its step in each spatial dimension; by default 1, as in flax.
    padding: 'SAME', 'SAME_LOWER', 'VALID', or (low, high) for each spatial
      dimension. Padding counts as minus infinity.

  Returns:
    [batch..., out..., channels].
  """
  return _pool(inputs, window_shape, strides, padding, -jnp.inf, _largest)


def avg_pool(
    inputs: jax.Array,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: str | Sequence[tuple[int, int]] = 'VALID',
    count_include_pad: bool = True,
) -> jax.Array:
  """The mean of each window; a drop-in for `flax.linen.avg_pool`.

  Args:
    inputs: as in `max_pool`.
    window_shape: as in `max_pool`.
    strides: as in `max_pool`.
    padding: as in `max_pool`, but here padding is zero.
    count_include_pad: whether padding counts as zeros, or not at all.

  Returns:
    [batch..., out..., channels].
  """
  total = _pool(inputs, window_shape, strides, padding, 0, _sum)
  if count_include_pad:
    return total / math.prod(window_shape)
  first = inputs.ndim - 1 - len(window_shape)
  ones = jnp.ones(
      (*(1,) * first, *inputs.shape[first:-1], 1), total.dtype)
  return total / _pool(ones, window_shape, strides, padding, 0, _sum)


def max_windows(x: jax.Array, **windows) -> jax.Array:
  """`lax.reduce_window` by the maximum; `windows` are those of `fold`."""
  return fold(_first_largest, _least(x.dtype), x, **windows)


def min_windows(x: jax.Array, **windows) -> jax.Array:
  """`lax.reduce_window` by the minimum; the first one gets the gradient."""
  return fold(_first_smallest, _most(x.dtype), x, **windows)


def sum_windows(x: jax.Array, **windows) -> jax.Array:
  """`lax.reduce_window` by the sum."""
  return fold(lax.add, 0, x, **windows)


def fold(
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    init: float,
    x: jax.Array,
    *,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    window_dilation: Sequence[int],
) -> jax.Array:
  """Combines the entries of windows over any axes, element-wise.

  Args:
    combine: of two arrays; the first one's entries come earlier in a window.
    init: what padding is.
    x: of any shape.
    window_dimensions: the window's size along each axis.
    window_strides: its step along each axis.
    padding: (low, high) for each axis; negative numbers crop.
    window_dilation: distance of a window's entries along each axis.

  Returns:
    An array of as many axes.
  """
  x = convolution.pad_or_crop(x, padding, 0, init)
  for axis in reversed(range(x.ndim)):
    size, stride = window_dimensions[axis], window_strides[axis]
    gap = window_dilation[axis]
    if size == 1 == stride:
      continue
    if gap > 1:
      entries = _spread_entries(x, axis, size, stride, gap)
    else:
      if x.shape[axis] < size + stride:
        stride = size  # A lone window's stride means nothing.
      while _can_be_halved(size, stride):
        x = combine(*_entries(_whole_windows(x, axis, size), axis, 2, 2))
        size = stride = size // 2
      entries = _entries(x, axis, size, stride)
    x = functools.reduce(combine, entries)
  return x


def is_short(size: int, stride: int, length: int) -> bool:
  """Whether `fold` takes few operations along an axis.

  Args:
    size: of the windows.
    stride: their step.
    length: of the axis.
  """
  stride = size if length < size + stride else stride
  while _can_be_halved(size, stride):
    size = stride = size // 2
  return size <= _MOST_ENTRIES


def _can_be_halved(size, stride):
  return size == stride and size > _MOST_AT_ONCE and size % 2 == 0


def _whole_windows(x, axis, size):
  return lax.slice_in_dim(x, 0, x.shape[axis] // size * size, axis=axis)


def _spread_entries(x, axis, size, stride, gap):
  """As `_entries`, of windows whose entries lie `gap` apart."""
  out = max((x.shape[axis] - (size - 1) * gap - 1) // stride + 1, 0)
  reach = max((out - 1) * stride + 1, 0)
  return [lax.slice_in_dim(x, i * gap, i * gap + reach, stride, axis=axis)
          for i in range(size)]


def _least(dtype):
  if jnp.issubdtype(dtype, jnp.inexact):
    return -jnp.inf
  return jnp.iinfo(dtype).min


def _most(dtype):
  if jnp.issubdtype(dtype, jnp.inexact):
    return jnp.inf
  return jnp.iinfo(dtype).max


def _pool(x, window, strides, padding, init, reduce: Callable) -> jax.Array:
  """Pads, and hands on with the number of the first spatial dimension."""
  window = tuple(window)
  strides = tuple(strides or (1,) * len(window))
  first = x.ndim - 1 - len(window)
  if first < 0 or len(strides) != len(window):
    raise ValueError(
        f'window_shape {window} and strides {strides} must be of one length, '
        f'shorter than the shape of the inputs, {x.shape}.')
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(x.shape[first:-1], window, strides, padding)
  x = convolution.pad_or_crop(x, padding, first, init)
  # A lone window's stride means nothing; its own size takes the faster way.
  strides = tuple(
      size if n < size + stride else stride for n, size, stride
      in zip(x.shape[first:-1], window, strides, strict=True))
  return reduce(x, first, window, strides)


def _largest(x, first, window, strides):
  return _fold(_first_largest, x, first, window, strides)


def _sum(x, first, window, strides):
  if window != strides:
    return _fold(lax.add, x, first, window, strides)
  # Sums of windows that don't overlap are what lax is fast at.
  window = (*(1,) * first, *window, 1)
  return lax.reduce_window(
      x, np.zeros((), x.dtype), lax.add, window, window, 'VALID')


def _fold(combine, x, first, window, strides):
  """Combines the entries of windows axis by axis, the last one first."""
  for i in reversed(range(len(window))):
    x = functools.reduce(
        combine, _entries(x, first + i, window[i], strides[i]))
  return x


def _first_largest(a, b):
  # A select has a one-sided gradient; lax.max would split it between equals.
  return jnp.where((b > a) | (b != b), b, a)


def _first_smallest(a, b):
  return jnp.where((b < a) | (b != b), b, a)


def _entries(x, axis, size, stride):
  """The 1st, 2nd, … entry of every window along `axis`, a list of arrays."""
  out = max((x.shape[axis] - size) // stride + 1, 0)
  if size == stride or not out:
    # The gradient of an index is cheaper than that of a strided slice.
    x = lax.slice_in_dim(x, 0, out * size, axis=axis)
    x = x.reshape(*x.shape[:axis], out, size, *x.shape[axis + 1:])
    return [lax.index_in_dim(x, i, axis + 1, keepdims=False)
            for i in range(size)]
  reach = (out - 1) * stride + 1
  return [lax.slice_in_dim(x, i, i + reach, stride, axis=axis)
          for i in range(size)]

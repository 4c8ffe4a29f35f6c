"""Convolution that stays fast with per-client weights and inside loops.

Weights that differ from client to client turn a convolution under `vmap` into
a grouped one, which XLA runs badly; and inside a loop XLA's CPU backend runs
any convolution much slower than outside. Matrix products suffer
from neither, so convolution is written here as input patches times a matrix:
the same numbers up to the order of summation, differentiable in either mode.

How the products are cut is a matter of the platform. A local step of
`models.mnist_cnn` with 10 clients takes, as XLA compiles it,

    H100      patches 751 MB, rows of products 691 MB, lax's own 555 MB
    TPU v5e   rows of products 74 fusions and 5.3 million cycles of the
              compiler's estimate, lax's own 46 and 3.6 million

On a GPU lax's own, five calls of cuDNN, took 2.9 times as long as rows of
products nevertheless, and patches 1.13 times (docs/gpu.md); so it gets the
latter. A TPU gets lax's own convolution: it has hardware for it.

Models get it by themselves (`models/fast_apply.py`). Where it is called by
hand, flax's layers take it, linen and nnx alike:

    nn.Conv(features, (5, 5),
            conv_general_dilated=convolution.conv_general_dilated)
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax import lax
from jax import numpy as jnp

from fedjax_sim.core import compilation
from fedjax_sim.models import transposed, winograd

# From this many inputs per kernel row on, a product a row (`_by_rows`) beats
# patches of the whole kernel (`_by_patches`) on a CPU; below, the products are
# too thin (benchmarks/kernels.py).
_MIN_ROW_INPUTS = 64

# Tiles of rows (`_by_tiles`) beat single rows where products are large enough
# to outweigh the transforms (benchmarks/kernels.py).
_MIN_TILE_INPUTS, _MIN_TILE_OUTPUTS = 32, 64


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
  """A drop-in for `jax.lax.conv_general_dilated`, as matrix products.

  Covered are all layouts, in one or more spatial dimensions, with any strides,
  padding, dilation of the inputs (a transposed convolution) or the kernel, and
  groups of channels. Channels last, what flax's `Conv` asks for, needs no
  transpositions. Handed on to `lax` are: `batch_group_count` other than 1, an
  `out_sharding`, arrays of two dtypes or without elements, and arguments that
  don't fit together, so that `lax` names the error.

  The patches take up to kernel-size times the input's memory. On a CPU kernels
  of three to five rows with many channels take minimal filtering along the
  rows, which costs one of float32's seven digits; `precision='highest'` does
  without.

  Args:
    lhs: the inputs, [B, spatial..., c_in] or as `dimension_numbers` says.
    rhs: the kernel, [kernel..., c_in // feature_group_count, c_out] or as
      `dimension_numbers` says.
    window_strides: step of the window in each spatial dimension.
    padding: 'SAME', 'SAME_LOWER', 'VALID', or (low, high) for each spatial
      dimension; negative numbers crop.
    lhs_dilation: distance of the inputs in each spatial dimension, with zeros
      between them; then `padding` must be numbers.
    rhs_dilation: distance of the kernel's taps in each spatial dimension.
    dimension_numbers: as in lax; `None` means channels first.
    feature_group_count: channels are split in that many independent groups.
    batch_group_count: as in lax.
    precision: as in lax, for the matrix products.
    preferred_element_type: dtype of the result; by default that of `lhs`.
      Types narrower than float32 are summed in float32.
    out_sharding: as in lax.

  Returns:
    [B, out..., c_out], or as `dimension_numbers` says.
  """
  fallback = functools.partial(
      lax.conv_general_dilated, lhs, rhs, window_strides, padding,
      lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation,
      dimension_numbers=dimension_numbers,
      feature_group_count=feature_group_count,
      batch_group_count=batch_group_count, precision=precision,
      preferred_element_type=preferred_element_type)
  if out_sharding is not None:
    return fallback(out_sharding=out_sharding)
  if batch_group_count != 1 or not lhs.ndim == rhs.ndim > 2:
    return fallback()
  layout = _layout(lhs, rhs, dimension_numbers)
  x, kernel = _permuted(lhs, layout.inputs), _permuted(rhs, layout.kernel)
  ones = (1,) * (lhs.ndim - 2)
  stretch, dilation = tuple(lhs_dilation or ones), tuple(rhs_dilation or ones)
  if (not _shapes_fit(x, kernel, feature_group_count)
      or not _windows_fit(x, window_strides, dilation, stretch, padding)):
    return fallback()
  frame = _frame(x, kernel, window_strides, padding, dilation, stretch)
  if min(frame.out) < 1:
    return fallback()
  run = functools.partial(
      _convolve, groups=feature_group_count, precision=precision,
      dtype=_sum_dtype(lhs, preferred_element_type))
  if stretch == ones:
    y = run(x, kernel, frame)
  else:
    y = transposed.convolve(x, kernel, frame, stretch, run)
  y = y.astype(preferred_element_type or lhs.dtype)
  return _permuted(y, layout.outputs)


class _Layout(NamedTuple):
  """Permutations to channels last and, for the outputs, from there."""

  inputs: tuple[int, ...]
  kernel: tuple[int, ...]
  outputs: tuple[int, ...]


def _layout(lhs, rhs, dimension_numbers) -> _Layout:
  numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
  batch, features, *space = numbers.lhs_spec
  outputs, inputs, *window = numbers.rhs_spec
  out_batch, out_features, *out_space = numbers.out_spec
  order = (out_batch, *out_space, out_features)
  return _Layout(
      (batch, *space, features), (*window, inputs, outputs),
      tuple(order.index(axis) for axis in range(lhs.ndim)))


def _permuted(x, order):
  return x if order == tuple(range(x.ndim)) else lax.transpose(x, order)


class _Frame(NamedTuple):
  """Where the windows lie, an entry for each spatial dimension."""

  strides: tuple[int, ...]
  padding: tuple[tuple[int, int], ...]
  dilation: tuple[int, ...]
  out: tuple[int, ...]


def _frame(lhs, rhs, strides, padding, dilation, stretch) -> _Frame:
  sizes = [(size - 1) * gap + 1
           for size, gap in zip(lhs.shape[1:-1], stretch, strict=True)]
  reach = [(k - 1) * d + 1
           for k, d in zip(rhs.shape[:-2], dilation, strict=True)]
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(sizes, reach, strides, padding)
  out = [(size + low + high - r) // stride + 1
         for size, (low, high), r, stride
         in zip(sizes, padding, reach, strides, strict=True)]
  return _Frame(tuple(strides), tuple(padding), dilation, tuple(out))


def _convolve(x, kernel, frame, groups, precision, dtype):
  """Chooses the form of the convolution by its shape."""
  dot = functools.partial(
      lax.dot_general, precision=precision, preferred_element_type=dtype)
  rows, *window, inputs, _ = kernel.shape
  if groups > 1 and inputs == 1:
    return _by_taps(x, kernel, frame, groups, dtype)
  if groups > 1:
    return _by_groups(x, kernel, frame, groups, dot)
  if rows > 1 and frame.strides == (rows, *window) and max(frame.dilation) < 2:
    return _by_blocks(x, kernel, frame, dot)
  if compilation.platform() == 'tpu' and math.prod((rows, *window)) > 1:
    return _by_lax(x, kernel, frame, precision, dtype)
  if _tiles_pay(x, kernel, frame, precision, dtype):
    return _by_tiles(x, kernel, frame, dot)
  # With a stride most of the rows' results would be thrown away.
  if (rows > 1 and frame.strides[0] == 1
      and math.prod(window) * inputs >= _MIN_ROW_INPUTS):
    return _by_rows(x, kernel, frame, dot)
  return _by_patches(x, kernel, frame, dot)


def _by_lax(x, kernel, frame, precision, dtype):
  space = tuple(range(1, x.ndim - 1))
  last = (0, x.ndim - 1, *space)
  return lax.conv_general_dilated(
      x, kernel, frame.strides, frame.padding, rhs_dilation=frame.dilation,
      dimension_numbers=lax.ConvDimensionNumbers(
          last, (x.ndim - 1, x.ndim - 2, *range(x.ndim - 2)), last),
      precision=precision, preferred_element_type=dtype)


def _by_patches(x, kernel, frame, dot):
  """All taps side by side [B, out..., taps * c_in], and one product."""
  taps = _taps(x, kernel.shape[:-2], frame)
  matrix = kernel.reshape(-1, kernel.shape[-1])
  return _product(lax.concatenate(taps, x.ndim - 1), matrix, dot)


def _by_blocks(x, kernel, frame, dot):
  """Windows side by side without overlap: patches are a transposition."""
  window = kernel.shape[:-2]
  x = pad_or_crop(x, [
      (low, out * size - n - low) for (low, _), out, size, n
      in zip(frame.padding, frame.out, window, x.shape[1:-1], strict=True)],
      1, 0)
  split = itertools.chain(*zip(frame.out, window, strict=True))
  x = x.reshape(x.shape[0], *split, x.shape[-1])
  last = x.ndim - 1
  x = x.transpose(0, *range(1, last, 2), *range(2, last, 2), last)
  x = x.reshape(x.shape[0], *frame.out, -1)
  return _product(x, kernel.reshape(-1, kernel.shape[-1]), dot)


def _by_rows(x, kernel, frame, dot):
  """One product for all kernel rows, their results shifted and added.

  The taps of one kernel row (of all but the first spatial dimension) lie side
  by side in the patches, and the kernel's rows side by side in the columns of
  the matrix. So the first dimension is unrolled on the output's side: patches
  stay small, and both directions are products of well-shaped matrices.
  """
  rows, *window, _, outputs = kernel.shape
  # Each input row once, unpadded: padding the products is as good.
  taps = _taps(x, (1, *window), frame._replace(
      padding=((0, 0), *frame.padding[1:]), out=(x.shape[1], *frame.out[1:])))
  matrix = kernel.reshape(rows, -1, outputs).swapaxes(0, 1)
  y = _product(lax.concatenate(taps, x.ndim - 1),
               matrix.reshape(-1, rows * outputs), dot)
  y = pad_or_crop(y, frame.padding[:1], 1, 0)
  parts = []
  for row in range(rows):
    begin = row * frame.dilation[0]
    part = lax.slice_in_dim(y, begin, begin + frame.out[0], axis=1)
    parts.append(lax.slice_in_dim(
        part, row * outputs, (row + 1) * outputs, axis=x.ndim - 1))
  return functools.reduce(lax.add, parts)


def _tiles_pay(x, kernel, frame, precision, dtype) -> bool:
  rows, *_, inputs, outputs = kernel.shape
  if (rows not in winograd.TILES or frame.strides[0] != 1
      or frame.dilation[0] != 1 or inputs < _MIN_TILE_INPUTS
      or outputs < _MIN_TILE_OUTPUTS):
    return False
  tile = winograd.TILES[rows]
  products = -(-frame.out[0] // tile) * (tile + rows - 1)
  return (4 * products <= 3 * frame.out[0] * rows
          and x.dtype == dtype == jnp.float32
          and all(p in (None, lax.Precision.DEFAULT) for p in
                  (precision if isinstance(precision, tuple) else (precision,)))
          and compilation.platform() == 'cpu')


def _by_tiles(x, kernel, frame, dot):
  """Minimal filtering along the rows, patches along the other dimensions.

  A tile's rows are combined, a product taken for each combination, and the
  results combined again: m + r - 1 products for m rows instead of m * r.
  """
  rows, outputs = kernel.shape[0], kernel.shape[-1]
  tile = winograd.TILES[rows]
  size = tile + rows - 1
  change = winograd.transform(tile, rows)
  tiles = -(-frame.out[0] // tile)
  # In groups of a tile's number of rows, to take every tile-th row at no cost.
  groups = tiles + -(-(rows - 1) // tile)
  low = frame.padding[0][0]
  x = pad_or_crop(x, ((low, groups * tile - low - x.shape[1]),
                      *frame.padding[1:]), 1, 0)
  x = x.reshape(x.shape[0], groups, tile, *x.shape[2:])
  combined = winograd.combine(change.inputs, [
      x[:, k // tile:k // tile + tiles, k % tile] for k in range(size)])
  matrices = winograd.combine(change.taps, list(kernel))
  inner = frame._replace(
      strides=(1, *frame.strides[1:]), padding=((0, 0),) * len(frame.out),
      out=(tiles, *frame.out[1:]))
  products = []
  for part, matrix in zip(combined, matrices, strict=True):
    taps = _taps(part, (1, *kernel.shape[1:-2]), inner)
    products.append(_product(
        lax.concatenate(taps, part.ndim - 1), matrix.reshape(-1, outputs),
        dot))
  y = jnp.stack(winograd.combine(change.outputs, products), axis=2)
  y = y.reshape(y.shape[0], tiles * tile, *y.shape[3:])
  return lax.slice_in_dim(y, 0, frame.out[0], axis=1)


def _product(x, matrix, dot):
  # Of two axes each: in this form alone XLA's CPU backend is fast.
  y = dot(x.reshape(-1, x.shape[-1]), matrix, (((1,), (0,)), ((), ())))
  return y.reshape(*x.shape[:-1], -1)


def _by_groups(x, kernel, frame, groups, dot):
  """As `_by_patches`, with one product for each group of channels."""
  *window, inputs, outputs = kernel.shape
  taps = [t.reshape(*t.shape[:-1], groups, inputs)
          for t in _taps(x, window, frame)]
  matrices = kernel.reshape(-1, groups, outputs // groups)
  y = dot(lax.concatenate(taps, x.ndim), matrices,
          (((x.ndim,), (0,)), ((x.ndim - 1,), (1,))))
  return jnp.moveaxis(y, 0, -2).reshape(*y.shape[1:-1], outputs)


def _by_taps(x, kernel, frame, groups, dtype):
  """Groups of one channel: taps times their weights, added up."""
  *window, _, outputs = kernel.shape
  weights = kernel.astype(dtype).reshape(
      -1, *(1,) * (x.ndim - 1), groups, outputs // groups)
  terms = [tap[..., None].astype(dtype) * weight for tap, weight
           in zip(_taps(x, window, frame), weights, strict=True)]
  y = functools.reduce(lax.add, terms)
  return y.reshape(*y.shape[:-2], outputs)


def _taps(x, window, frame):
  """What each tap of the kernel sees: a list of [B, out..., c_in]."""
  x = pad_or_crop(x, frame.padding, 1, 0)
  taps = []
  for tap in itertools.product(*(range(k) for k in window)):
    begin = [t * d for t, d in zip(tap, frame.dilation, strict=True)]
    end = [b + (o - 1) * s + 1
           for b, o, s in zip(begin, frame.out, frame.strides, strict=True)]
    taps.append(lax.slice(x, [0, *begin, 0], [x.shape[0], *end, x.shape[-1]],
                          [1, *frame.strides, 1]))
  return taps


def pad_or_crop(
    x: jax.Array,
    padding: Sequence[tuple[int, int]],
    axis: int,
    value: float,
) -> jax.Array:
  """Pads `x` with `value` from `axis` on; negative amounts crop."""
  if not any(itertools.chain(*padding)):
    return x
  config = [(0, 0, 0)] * axis + [(low, high, 0) for low, high in padding]
  config += [(0, 0, 0)] * (x.ndim - len(config))
  return lax.pad(x, jnp.asarray(value, x.dtype), config)


def _sum_dtype(x, preferred):
  wanted = jnp.dtype(preferred or x.dtype)
  narrow = jnp.issubdtype(wanted, jnp.floating) and wanted.itemsize < 4
  return jnp.dtype('float32') if narrow else wanted


def _shapes_fit(lhs, rhs, groups) -> bool:
  return bool(
      lhs.ndim == rhs.ndim > 2 and lhs.dtype == rhs.dtype
      and lhs.size and rhs.size and groups > 0
      and lhs.shape[-1] == rhs.shape[-2] * groups
      and rhs.shape[-1] % groups == 0)


def _windows_fit(lhs, strides, dilation, stretch, padding) -> bool:
  if isinstance(padding, str) and any(gap != 1 for gap in stretch):
    return False
  entries = [strides, dilation, stretch]
  if not isinstance(padding, str):
    entries.append(padding)
  return (all(len(entry) == lhs.ndim - 2 for entry in entries)
          and min(*strides, *dilation, *stretch) > 0)

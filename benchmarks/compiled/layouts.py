"""Bytes of XLA's types: as numbers, and padded to a TPU's tiles."""

import math
import re
from typing import NamedTuple

_BITS = {'pred': 8, 's4': 4, 'u4': 4, 's8': 8, 'u8': 8, 's16': 16, 'u16': 16,
         'bf16': 16, 'f16': 16, 's32': 32, 'u32': 32, 'f32': 32, 's64': 64,
         'u64': 64, 'f64': 64}
_ARRAY = re.compile(
    rf'\b({"|".join(_BITS)})\[([\d,]*)\](?:\{{([^}}]*)\}})?')


class Array(NamedTuple):
  """An array of a type.

  Attributes:
    shape: of it.
    bytes: of its numbers.
    padded: bytes that it takes, with what fills up a TPU's tiles.
    on_chip: whether it lies in a TPU's fast memory.
  """

  shape: tuple[int, ...]
  bytes: int
  padded: int
  on_chip: bool


def arrays(text: str) -> list[Array]:
  """The arrays of a type, such as f32[10,784]{1,0:T(8,128)}; of a tuple all."""
  return [_array(*match.groups()) for match in _ARRAY.finditer(text)]


def num_bytes(text: str) -> int:
  """Bytes of all arrays of a type in a device's large memory, padding too."""
  return sum(array.padded for array in arrays(text) if not array.on_chip)


def _array(kind: str, shape: str, layout: str | None) -> Array:
  shape = tuple(int(n) for n in shape.split(',') if n)
  order, _, rest = (layout or '').partition(':')
  padded = list(shape)
  tile = re.match(r'T\(([\d,]+)\)', rest)
  if tile and shape:
    fastest_first = [int(n) for n in order.split(',')]
    sizes = [int(n) for n in tile.group(1).split(',')]
    for axis, size in zip(fastest_first, reversed(sizes), strict=False):
      padded[axis] = -(-padded[axis] // size) * size
  bytes_of = lambda dims: math.prod(dims) * _BITS[kind] // 8
  return Array(shape, bytes_of(shape), bytes_of(padded), 'S(1)' in rest)

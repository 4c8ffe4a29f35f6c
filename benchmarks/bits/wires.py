"""How each compressor's message would go over a wire, in NumPy.

A wire writes what a client sends of one vector and reads it again from the
bits, with nothing else but what both sides know: the vector's length, the
compressor and its arguments. A seed is written as a number of its length; what
the receiver draws from it, a mask or a rotation, is given to the reader.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sim.aggregation import hadamard
from fedjax_sim.aggregation.eden import normal_levels
from fedjax_sim.aggregation.value_code import SEED
from fedjax_sim.core import bit_streams, range_coder
from fedjax_sim.core.bit_streams import Reader

_LENGTH = 32


class Sent(NamedTuple):
  """A vector that a client sends.

  Attributes:
    values: float32 [n], what the server makes of it.
    mask: bool [n], the values that travel; None for all.
    before: [n'], the client's, before the compressor.
    key: that the compressor drew from.
    first: whether it is the first one of the message.
  """

  values: np.ndarray
  mask: np.ndarray | None
  before: np.ndarray
  key: jax.Array
  first: bool

  @property
  def travelling(self) -> np.ndarray:
    """The values that do, in order."""
    return self.values if self.mask is None else self.values[self.mask]


class Wire(NamedTuple):
  """A way to write vectors.

  Attributes:
    write: `(Sent) -> bool [bits]`.
    read: `(Reader, Sent) -> float32 [n]`; of `Sent` it may look at the length,
      and at what is drawn from a seed: the mask, the key.
    places: whether the message begins with the masks of all its vectors.
  """

  write: Callable[[Sent], np.ndarray]
  read: Callable[[Reader, Sent], np.ndarray]
  places: bool = False


def write(wire: Wire, message: list[Sent]) -> bytes:
  """A whole message."""
  places = [bit_streams.positions(np.concatenate([x.mask for x in message]))
            ] if wire.places else []
  return np.packbits(np.concatenate(
      [*places, *map(wire.write, message)])).tobytes()


def read(wire: Wire, written: bytes, message: list[Sent]) -> list[np.ndarray]:
  """The values of each vector, float32 [n].

  Args:
    wire: that has written it.
    written: the message.
    message: as far as the reader may look at it.

  Raises:
    ValueError: something is left.
  """
  reader = Reader(np.unpackbits(np.frombuffer(written, np.uint8)))
  if wire.places:
    ends = np.cumsum([len(x.values) for x in message])
    masks = np.split(reader.positions(ends[-1]), ends[:-1])
    message = [x._replace(mask=mask) for x, mask in zip(
        message, masks, strict=True)]
  values = [wire.read(reader, x) for x in message]
  if reader.left >= 8:
    raise ValueError(f'{reader.left} bits are left.')
  return values


def floats() -> Wire:
  """The values as they are."""
  return Wire(lambda sent: bit_streams.floats(sent.travelling),
              lambda reader, sent: reader.floats(len(sent.travelling)))


def halves() -> Wire:
  """bfloat16, the upper half of a float32."""
  return Wire(
      lambda sent: bit_streams.fixed(
          sent.travelling.view(np.uint32) >> 16, 16),
      lambda reader, sent: (reader.fixed(len(sent.travelling), 16).astype(
          np.uint32) << 16).view(np.float32))


def with_places(values: Wire) -> Wire:
  """Before all vectors, which values of them travel."""
  return Wire(values.write, lambda reader, sent: _spread(
      sent.mask, values.read(reader, sent)), places=True)


def with_seed(values: Wire) -> Wire:
  """The values that travel are drawn again from a seed."""
  def write(sent):
    return np.concatenate([_seed(sent), values.write(sent)])

  def read(reader, sent):
    reader.number(SEED if sent.first else 0)
    return _spread(sent.mask, values.read(reader, sent))

  return Wire(write, read)


def grid(bits: int, coder: str = 'fixed') -> Wire:
  """Least and greatest value, and the level of each between them."""
  steps, symbols = 2 ** bits - 1, _symbols(coder, 2 ** bits)

  def write(sent):
    values = sent.travelling
    low, high = (values.min(), values.max()) if len(values) else (0, 0)
    step = (high - low) / steps or 1
    return np.concatenate([
        bit_streams.floats(np.array([low, high])),
        symbols.write(np.rint((values - low) / step).astype(int))])

  def read(reader, sent):
    low, high = reader.floats(2)
    level = symbols.read(reader, len(sent.travelling)).astype(np.float32)
    return low + (high - low) / np.float32(steps) * level

  return Wire(write, read)


def parts_of_the_norm(levels: int, coder: str) -> Wire:
  """The length of a vector, and how many parts of it each value is."""
  symbols = _symbols(coder, 2 * levels + 1)

  def write(sent):
    norm = np.linalg.norm(sent.before).astype(np.float32)
    level = np.rint(sent.values / norm * levels).astype(int)
    code = elias(level) if coder == 'elias' else symbols.write(level + levels)
    return np.concatenate([bit_streams.floats(norm[None]), code])

  def read(reader, sent):
    norm, size = reader.floats(1)[0], len(sent.values)
    level = (read_elias(reader, size) if coder == 'elias'
             else symbols.read(reader, size) - levels)
    return norm / np.float32(levels) * level.astype(np.float32)

  return Wire(write, read)


def elias(level: np.ndarray) -> np.ndarray:
  """QSGD's codes of signed levels: the shorter one, and which it is."""
  used = level != 0
  signs, levels = level[used] < 0, np.abs(level)
  sparse = np.concatenate([
      bit_streams.positions(used), signs, bit_streams.omega(levels[used])])
  dense = np.concatenate([bit_streams.omega(levels + 1), signs])
  which = len(dense) < len(sparse)
  return np.concatenate([[which], dense if which else sparse])


def read_elias(reader: Reader, size: int) -> np.ndarray:
  """Signed levels, int64 [size]."""
  if reader.number(1):
    levels = reader.omega(size) - 1
    used = levels > 0
    levels[used] *= 1 - 2 * reader.fixed(used.sum(), 1)
    return levels
  used, levels = reader.positions(size), np.zeros(size, np.int64)
  signs = 1 - 2 * reader.fixed(used.sum(), 1)
  levels[used] = signs * reader.omega(used.sum())
  return levels


def ternary(coder: str) -> Wire:
  """The largest value, and a digit of three for each."""
  symbols = _symbols(coder, 3)

  def write(sent):
    scale = np.abs(sent.values).max()
    return np.concatenate([
        bit_streams.floats(scale[None]),
        symbols.write(np.sign(sent.values).astype(int) + 1)])

  def read(reader, sent):
    scale = reader.floats(1)[0]
    return scale * (symbols.read(reader, len(sent.values)) - 1).astype(
        np.float32)

  return Wire(write, read)


def signs() -> Wire:
  """One bit a value."""
  return Wire(lambda sent: sent.values > 0,
              lambda reader, sent: np.float32(
                  2 * reader.fixed(len(sent.values), 1) - 1))


def rotated(levels: np.ndarray, coder: str = 'fixed') -> Wire:
  """A scale, and the nearest level of each value of the rotated vector."""
  symbols = _symbols(coder, len(levels))
  levels = levels.astype(np.float32)

  def write(sent):
    z = np.asarray(hadamard.rotate(sent.before, sent.key))
    number = np.searchsorted(
        (levels[1:] + levels[:-1]) / 2, z / np.sqrt(np.mean(np.square(z))),
        side='right')
    scale = np.vdot(z, z) / np.vdot(z, levels[number])
    return np.concatenate([
        _seed(sent), bit_streams.floats(scale[None]), symbols.write(number)])

  def read(reader, sent):
    reader.number(SEED if sent.first else 0)
    scale, size = reader.floats(1)[0], len(sent.values)
    number = symbols.read(reader, hadamard.padded_size(size))
    return np.asarray(hadamard.unrotate(
        scale * levels[number], sent.key, size))

  return Wire(write, read)


class _Symbols(NamedTuple):
  """Integers below a number: how they are written and read."""

  write: Callable[[np.ndarray], np.ndarray]
  read: Callable[[Reader, int], np.ndarray]


def _symbols(coder: str, number: int) -> _Symbols:
  """As `aggregation/symbols.py` counts them."""
  if coder == 'entropy':
    def write(values):
      code = range_coder.write(values, number)
      return np.concatenate([
          bit_streams.fixed(np.array([len(code)]), _LENGTH), code])

    def read(reader, size):
      code = reader.fixed(reader.number(_LENGTH), 1).astype(bool)
      return range_coder.read(Reader(code), size, number)
    return _Symbols(write, read)
  if number & (number - 1) == 0:
    width = number.bit_length() - 1
    return _Symbols(lambda values: bit_streams.fixed(values, width),
                    lambda reader, size: reader.fixed(size, width))
  return _Symbols(lambda values: bit_streams.digits(values, number),
                  lambda reader, size: reader.digits(size, number))


def _seed(sent: Sent) -> np.ndarray:
  return np.zeros(SEED if sent.first else 0, bool)


def _spread(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
  full = np.zeros(len(mask), np.float32)
  full[mask] = values
  return full


# Spec -> how its messages are written.
WIRES: dict[str, Any] = {
    'identity': floats(),
    'cast("bfloat16")': halves(),
    'top_k(0.01)': with_places(floats()),
    'top_k(0.01) | quantize(4)': with_places(grid(4)),
    'random_k(0.01)': with_seed(floats()),
    'subsample(0.01)': with_seed(floats()),
    'quantize(8)': grid(8),
    'quantize(2)': grid(2),
    'quantize(2, coder="entropy")': grid(2, 'entropy'),
    'rotate | quantize(2)': grid(2),
    'rotate | subsample(0.25) | quantize(2)': with_seed(grid(2)),
    'qsgd(1)': parts_of_the_norm(1, 'elias'),
    'qsgd(15)': parts_of_the_norm(15, 'elias'),
    'qsgd(15, coder="entropy")': parts_of_the_norm(15, 'entropy'),
    'terngrad': ternary('fixed'),
    'terngrad(coder="entropy")': ternary('entropy'),
    'sign_sgd': signs(),
    'drive': rotated(np.array([-1.0, 1.0])),
    'eden(2)': rotated(normal_levels(2)),
    'eden(4, coder="entropy")': rotated(normal_levels(4), 'entropy'),
}

"""The coders of `core/coders.py` in NumPy: they write bits and read them.

A stream is a bool array [bits]; `Reader` reads one from its beginning. They are
not for the compiled round, where bits are counted. Tests and benchmarks use
them to see that the counts are attained.
"""

import numpy as np

from fedjax_sim.core.coders import digits_per_word

_WORD = 32


def fixed(values: np.ndarray, width: int) -> np.ndarray:
  """Integers from 0 on, `width` bits each, the highest first."""
  return _joined(values, np.full(np.size(values), width))


def floats(values: np.ndarray) -> np.ndarray:
  """Each float32 as it is."""
  return np.unpackbits(
      np.ascontiguousarray(values, '>f4').view(np.uint8)).astype(bool)


def digits(values: np.ndarray, base: int) -> np.ndarray:
  """Digits below `base`, as many as fit in each word of 32 bits."""
  many = digits_per_word(base)
  flat = np.ravel(values).astype(np.uint64)
  rows = np.pad(flat, (0, -len(flat) % many)).reshape(-1, many)
  powers = np.uint64(base) ** np.arange(many, dtype=np.uint64)
  return fixed(rows @ powers, _WORD)


def gamma(values: np.ndarray) -> np.ndarray:
  """Elias' gamma code of integers from 1 on."""
  return _joined(values, 2 * _lengths(values) - 1)


def omega(values: np.ndarray) -> np.ndarray:
  """Elias' omega code of integers from 1 on."""
  return np.array([bit == '1' for n in np.ravel(values).tolist()
                   for bit in _omega_text(n)], bool)


def rice(values: np.ndarray, parameter: int) -> np.ndarray:
  """Golomb-Rice code of integers from 0 on."""
  values = np.ravel(values).astype(np.uint64)
  high = values >> np.uint64(parameter)
  # Zeros as many as `high`, a one, and the low bits.
  codes = values - (high << np.uint64(parameter)) + np.uint64(2 ** parameter)
  return _joined(codes, high.astype(np.int64) + 1 + parameter)


def positions(mask: np.ndarray) -> np.ndarray:
  """The number of what is True, and the runs between."""
  places = np.flatnonzero(mask)
  gaps = np.diff(places, prepend=-1) - 1
  return np.concatenate([
      gamma(np.array([len(places) + 1])),
      rice(gaps, _rice_parameter(np.size(mask), len(places)))])


class Reader:
  """Reads what the functions of this module have written, in their order."""

  def __init__(self, stream: np.ndarray):
    self._text = ''.join(np.where(stream, '1', '0'))
    self._at = 0

  @property
  def left(self) -> int:
    """Bits that have not been read."""
    return len(self._text) - self._at

  def number(self, width: int) -> int:
    """An integer of `width` bits."""
    self._at += width
    return int(self._text[self._at - width:self._at] or '0', 2)

  def fixed(self, size: int, width: int) -> np.ndarray:
    """int64 [size]."""
    return np.array([self.number(width) for _ in range(size)], np.int64)

  def floats(self, size: int) -> np.ndarray:
    """float32 [size]."""
    return self.fixed(size, 32).astype(np.uint32).view(np.float32)

  def digits(self, size: int, base: int) -> np.ndarray:
    """int64 [size]."""
    many = digits_per_word(base)
    words = self.fixed(-(-size // many), _WORD)
    powers = base ** np.arange(many, dtype=np.int64)
    return (words[:, None] // powers % base).ravel()[:size]

  def gamma(self, size: int) -> np.ndarray:
    """int64 [size]."""
    return np.array([self.number(self._zeros() + 1) for _ in range(size)],
                    np.int64)

  def omega(self, size: int) -> np.ndarray:
    """int64 [size]."""
    return np.array([self._omega() for _ in range(size)], np.int64)

  def rice(self, size: int, parameter: int) -> np.ndarray:
    """int64 [size]."""
    return np.array([
        ((self._zeros() - 1 + self.number(1)) << parameter)
        + self.number(parameter) for _ in range(size)], np.int64)

  def positions(self, size: int) -> np.ndarray:
    """bool [size]."""
    count = int(self.gamma(1)[0]) - 1
    gaps = self.rice(count, _rice_parameter(size, count))
    mask = np.zeros(size, bool)
    mask[np.cumsum(gaps + 1) - 1] = True
    return mask

  def _zeros(self) -> int:
    """How many zeros come; the one after them is not read."""
    start, self._at = self._at, self._text.index('1', self._at)
    return self._at - start

  def _omega(self) -> int:
    value = 1
    while self._text[self._at] == '1':
      value = self.number(value + 1)
    self._at += 1
    return value


def _omega_text(value: int) -> str:
  text = '0'
  while value > 1:
    text = f'{value:b}{text}'
    value = value.bit_length() - 1
  return text


def _rice_parameter(size: int, count: int) -> int:
  count = max(count, 1)
  return int(max((2 * size - count) // (2 * count), 1)).bit_length() - 1


def _lengths(values: np.ndarray) -> np.ndarray:
  """Binary digits of integers from 1 on, below 2^53."""
  return np.frexp(np.ravel(values).astype(np.float64))[1]


def _joined(codes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
  """Numbers, each in so many binary digits, one after the other."""
  codes = np.repeat(np.ravel(codes).astype(np.uint64), lengths)
  ends = np.repeat(np.cumsum(lengths), lengths)
  shifts = ends - 1 - np.arange(len(codes))
  # A shift by 64 and more is not defined.
  bits = (codes >> np.minimum(shifts, 63).astype(np.uint64)) & np.uint64(1)
  return (bits == 1) & (shifts < 64)

"""Random numbers by identity: of a seed, a purpose, a number and a client.

A client's draw depends on nothing else: not on who is drawn beside it, nor on
what was drawn before. So any round's draws can be made at any time, and
settings are compared on the same luck.
"""

import functools
import zlib

import numpy as np

# The increment and the finalizer of SplitMix64 (Steele, Lea, Flood: "Fast
# splittable pseudorandom number generators", 2014, figure 14 and section 5.1).
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def uniforms(
    seed: int, purpose: str, number: np.ndarray | int, clients: np.ndarray
) -> np.ndarray:
  """float64 [n] in [0, 1), one for each client.

  Args:
    seed: from 0 to 2**64 - 1.
    purpose: tells draws of one seed apart.
    number: int, or int [n]; such as the round's.
    clients: int [n].
  """
  bits = _mixed(_stream(seed, purpose) ^ _words(number))
  bits = _mixed(bits ^ _words(clients))
  # The upper 53 bits fill a float64's fraction.
  return (bits >> np.uint64(11)) * 2.0 ** -53


def derived(seed: int, purpose: str) -> int:
  """A seed of its own for one purpose."""
  return int(_stream(seed, purpose)[0])


def generator(seed: int, purpose: str) -> np.random.Generator:
  """NumPy's generator for one purpose, for draws of all clients at once."""
  return np.random.Generator(np.random.Philox(derived(seed, purpose)))


@functools.lru_cache(maxsize=100)
def _stream(seed: int, purpose: str) -> np.ndarray:
  """uint64 [1]."""
  return _mixed(_mixed(_words(seed)) ^ _words(zlib.crc32(purpose.encode())))


def _words(numbers) -> np.ndarray:
  """uint64 [n]. Arrays, since only these wrap without a warning."""
  return np.atleast_1d(np.asarray(numbers)).astype(np.uint64)


def _mixed(bits: np.ndarray) -> np.ndarray:
  bits = bits + _STEP
  bits = (bits ^ (bits >> np.uint64(30))) * _FACTORS[0]
  bits = (bits ^ (bits >> np.uint64(27))) * _FACTORS[1]
  return bits ^ (bits >> np.uint64(31))

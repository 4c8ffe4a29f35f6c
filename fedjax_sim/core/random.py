"""Keys by identity: a draw depends on what it is for, not on where it runs.

A client's key in a round is made from (root key, round, client, occurrence);
below it every use has a name. Lanes, blocks, devices and the company a client
runs in never enter, so they can't change a result.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core import checks

# As many seeds as a root key, two words of 32 bits, can tell apart.
MAX_SEED = 2 ** 64 - 1
_WORD = 2 ** 32

# `random_order` draws as wide as the padded size, which is sound only where
# element i of a draw doesn't depend on how many elements are drawn. JAX calls
# such bits partitionable, and makes them by default.


def seed(name: str, value: Any, most: int = MAX_SEED) -> int:
  """Returns `value` as an int if it is a seed, from 0 to `most`.

  Raises:
    ValueError: it is a bool, no whole number, or out of range.
  """
  if not checks.is_whole(value) or not 0 <= int(value) <= most:
    bits = (most + 1).bit_length() - 1
    raise ValueError(f'{name} must be a whole number from 0 to 2**{bits} - 1, '
                     f'got {checks.shown(value)}.')
  return int(value)


def root_key(value: int) -> jax.Array:
  """The key that all others of a run come from; seeds never share one.

  It is `jax.random.key(value)` of a seed below 2**32. Of a larger one JAX drops
  the upper half unless it computes in 64 bits; here it is always kept.

  Raises:
    ValueError: `value` is no seed.
  """
  high, low = divmod(seed('seed', value), _WORD)
  key = jax.random.key(np.uint32(low))
  if not high:
    return key
  # The words are (high, low), of some generators twice.
  words = jax.random.key_data(key).at[0::2].set(np.uint32(high))
  return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))


def root_keys(values: Sequence[int]) -> jax.Array:
  """`root_key` of each of S seeds: [S]."""
  return jnp.stack([root_key(value) for value in values])


def words(value: int, number: int) -> list[int]:
  """What NumPy's generators are seeded with, for a seed and what it is for.

  Each has a place of its own, of 32 bits each, since `SeedSequence` runs the
  words of large numbers together: (s + 2**32, 0) would be (s, 1).

  Args:
    value: the seed.
    number: such as the round's, below 2**32.

  Raises:
    ValueError: one is out of range.
  """
  high, low = divmod(seed('seed', value), _WORD)
  if not 0 <= number < _WORD:
    raise ValueError(f'a round must be below 2**32, got {number}.')
  return [low, int(number), high]


def named(key: jax.Array, purpose: str) -> jax.Array:
  """The key for one named purpose, such as 'shuffle'."""
  return jax.random.fold_in(key, zlib.crc32(purpose.encode()))


def round_key(root: jax.Array, round_number: jax.Array) -> jax.Array:
  """The key of a round; rounds are numbered from 0."""
  return jax.random.fold_in(named(root, 'round'), round_number)


def client_key(
    key: jax.Array, client: jax.Array, occurrence: jax.Array
) -> jax.Array:
  """A client's key in the round of `key`.

  Args:
    key: the round's key, from `round_key`.
    client: int32 [], the client's number in the federation.
    occurrence: int32 [], 0 for the first time the client is in the round's
      cohort, 1 for the second (sampling with replacement), and so on.
  """
  key = jax.random.fold_in(named(key, 'client'), client)
  return jax.random.fold_in(key, occurrence)


def random_order(
    key: jax.Array, size: jax.Array, padded_size: int
) -> jax.Array:
  """A uniformly random order of 0 .. size - 1, then the padding.

  The order does not depend on `padded_size`: random 31-bit numbers are sorted,
  with padding above all of them.

  Args:
    key: a key of its own.
    size: int32 [], how many positions there are.
    padded_size: static length of the result, at least `size`.

  Returns:
    int32 [padded_size]; its first `size` entries are a permutation of
    0 .. size - 1, the others are `size` .. padded_size - 1 in order.
  """
  position = jnp.arange(padded_size, dtype=jnp.int32)
  bits = jax.random.bits(key, (padded_size,), jnp.uint32) >> 1
  bits = jnp.where(position < size, bits, jnp.uint32(0xFFFFFFFF))
  return jax.lax.sort((bits, position), num_keys=1, is_stable=True)[1]

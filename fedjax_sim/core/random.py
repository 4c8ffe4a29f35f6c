"""Keys by identity: a draw depends on what it is for, not on where it runs.

A client's key in a round is made from (root key, round, client, occurrence);
below it every use has a name. Lanes, blocks, devices and the company a client
runs in never enter, so they can't change a result.
"""

import zlib

import jax
from jax import numpy as jnp

# `random_order` draws as wide as the padded size, which is sound only where
# element i of a draw doesn't depend on how many elements are drawn. JAX calls
# such bits partitionable, and makes them by default.


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

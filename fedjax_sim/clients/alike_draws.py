"""Random numbers that don't depend on the shape in which they are drawn.

A draw is one number, in all places of the array. So what a model that draws,
as for dropout, computes of a row is the same in a batch of any size, unless the
model itself uses the size. For trying models out, and nothing else.
"""

import math

import jax
from jax import numpy as jnp
from jax.extend import random as generators

_USUAL = generators.threefry_prng_impl


def key() -> jax.Array:
  """A key for such draws; keys that are made of it draw likewise."""
  return jax.random.key(0, impl=_ALIKE)


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Keys [*shape, ...], of which the n-th is the same whatever the shape."""
  numbers = jnp.arange(math.prod(shape), dtype=jnp.uint32)
  keys = jax.vmap(lambda n: _USUAL.fold_in(key, n))(numbers)
  return keys.reshape(*shape, *_USUAL.key_shape)


def _bits(key: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
  """One number everywhere; three of four are small, so that dropout keeps."""
  one, other = (_USUAL.random_bits(part, width, ())
                for part in _split(key, (2,)))
  return jnp.broadcast_to(one & other, shape)


_ALIKE = generators.define_prng_impl(
    key_shape=_USUAL.key_shape, seed=_USUAL.seed, split=_split,
    random_bits=_bits, fold_in=_USUAL.fold_in, name='alike', tag='alike')

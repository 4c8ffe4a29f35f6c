"""Arithmetic on pytrees that optax.tree does not have."""

import math

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core.precision import wide_dtype
from fedjax_sim.core.types import PyTree


def add(a: PyTree, b: PyTree) -> PyTree:
  """Leaf by leaf."""
  return jax.tree.map(jnp.add, a, b)


def zeros(like: PyTree) -> PyTree:
  """Zeros of these shapes and dtypes."""
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)


def where(condition: jax.Array, on_true: PyTree, on_false: PyTree) -> PyTree:
  """Selects whole trees, or rows of them where `condition` has axes.

  Args:
    condition: bool [...], its shape a prefix of every leaf's shape.
    on_true: PyTree [..., ...].
    on_false: PyTree of the same structure and shapes.
  """
  def select(x, y):
    shape = condition.shape + (1,) * (x.ndim - condition.ndim)
    return jnp.where(condition.reshape(shape), x, y)
  return jax.tree.map(select, on_true, on_false)


def map_prefix(function, prefix: PyTree, tree: PyTree) -> PyTree:
  """`function(p, x)` for each leaf x of `tree`, under leaf p of `prefix`."""
  return jax.tree.map(
      lambda p, subtree: jax.tree.map(lambda x: function(p, x), subtree),
      prefix, tree)


def scale_rows(tree: PyTree, scale: PyTree) -> PyTree:
  """Multiplies leaves by `scale`, whose shape is a prefix of theirs; wide.

  Args:
    tree: PyTree of arrays.
    scale: an array, or a prefix tree of `tree` with arrays.
  """
  def multiply(factor, x):
    product = x * factor.reshape(factor.shape + (1,) * (x.ndim - factor.ndim))
    inexact = jnp.issubdtype(x.dtype, jnp.inexact)
    return product.astype(wide_dtype(x.dtype)) if inexact else product
  return map_prefix(multiply, scale, tree)


def divide_rows(tree: PyTree, divisor: PyTree) -> PyTree:
  """Divides leaves by `divisor`, as `scale_rows`; 0 where it isn't positive."""
  def inverse(x):
    positive = x > 0
    return jnp.where(positive, 1 / jnp.where(positive, x, 1), 0)
  return scale_rows(tree, jax.tree.map(inverse, divisor))


def path_name(path) -> str:
  """A leaf's place in words, such as 'params/dense_2/kernel'."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def size(tree: PyTree) -> int:
  """The number of elements of all leaves (arrays or shapes)."""
  return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def num_bytes(tree: PyTree) -> int:
  """The bytes that all leaves take, uncompressed."""
  return sum(
      math.prod(x.shape) * np.dtype(x.dtype).itemsize
      for x in jax.tree.leaves(tree)
      if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key))


def all_finite(tree: PyTree) -> jax.Array:
  """bool []: no inexact leaf holds a NaN or an infinity."""
  leaves = [x for x in jax.tree.leaves(tree)
            if jnp.issubdtype(x.dtype, jnp.inexact)]
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]
                           or [jnp.array(True)]))


def any_bad(tree: PyTree) -> jax.Array:
  """bool [], whether there is a NaN or an infinity.

  The largest absolute value tells both, faster than looking at each.
  """
  floats = [x for x in map(jnp.asarray, jax.tree.leaves(tree))
            if jnp.issubdtype(x.dtype, jnp.floating) and x.size]
  largest = [jnp.max(jnp.abs(x)) for x in floats]
  return ~jnp.all(jnp.array([x < jnp.inf for x in largest], bool))

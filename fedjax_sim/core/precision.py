"""Which dtype is used where: parameters as they are, sums in more bits.

What is kept or sent for each parameter (the model, a client's own model, an
update) has that parameter's dtype. What is computed from it is *wide*: at least
float32. These are gradients from where they are corrected on, optimizers and
their states, control variates, sums and means over clients. Losses, metrics,
weights and counts are scalars of JAX's own default, float32, or float64 under
JAX_ENABLE_X64.

A wide result becomes a parameter's dtype again in three places: after each
local step, in the update that a client sends, and after the server's step.
For parameters of float32 and float64 all of this changes nothing.
"""

from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

PyTree = Any


def scalar() -> np.dtype:
  """The dtype of losses, metrics, weights and counts."""
  return jnp.result_type(float)


def floats(x: jax.Array) -> jax.Array:
  """Numbers or bools in the dtype of losses and metrics."""
  return x.astype(scalar())


def wide_dtype(dtype: jax.typing.DTypeLike) -> np.dtype:
  """That of sums of such numbers; integers and keys have their own."""
  if not jnp.issubdtype(dtype, jnp.inexact):
    return dtype
  return jnp.promote_types(dtype, jnp.float32)


def wide(tree: PyTree) -> PyTree:
  """The same numbers, in at least float32."""
  return jax.tree.map(lambda x: _cast(x, wide_dtype(jnp.result_type(x))), tree)


def wide_zeros(like: PyTree) -> PyTree:
  """Zeros to add such numbers to."""
  return jax.tree.map(
      lambda x: jnp.zeros(x.shape, wide_dtype(x.dtype)), like)


def narrow(tree: PyTree, like: PyTree) -> PyTree:
  """The tree with each leaf rounded to the dtype of that of `like`.

  A tree of another structure is left to a check that can name what is wrong.
  """
  if jax.tree.structure(tree) != jax.tree.structure(like):
    return tree
  return jax.tree.map(lambda x, y: _cast(x, jnp.result_type(y)), tree, like)


def difference(new: PyTree, old: PyTree) -> PyTree:
  """new - old, subtracted wide, in the dtypes of `old`."""
  return narrow(
      jax.tree.map(lambda x, y: wide(x) - wide(y), new, old), old)


def add(params: PyTree, updates: PyTree) -> PyTree:
  """params + updates, added wide, in the dtypes of `params`."""
  return narrow(optax.apply_updates(wide(params), updates), params)


def _cast(x, dtype):
  return x if jnp.result_type(x) == dtype else x.astype(dtype)


def over_rate(number: jax.Array | float, rate: jax.Array | float) -> jax.Array:
  """number / rate, 0 where the rate has vanished.

  A schedule such as 0.9 ** round ends at numbers without a finite inverse.
  """
  rate = jnp.asarray(rate, scalar())
  usable = rate >= jnp.finfo(rate.dtype).tiny
  return jnp.where(usable, number / jnp.where(usable, rate, 1), 0)

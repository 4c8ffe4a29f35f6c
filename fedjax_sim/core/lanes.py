"""`vmap` over lanes, or over the members of a sweep."""

from collections.abc import Callable

import jax
from jax import numpy as jnp


def side_by_side(function: Callable) -> Callable:
  """`vmap`, which a single one is spared.

  With an axis of one in front of all weights XLA lays gradients out the other
  way round than weights, which makes a step slower.
  """
  def run(*args):
    if jax.tree.leaves(args)[0].shape[0] > 1:
      return jax.vmap(function)(*args)
    outputs = function(*jax.tree.map(lambda x: x[0], args))
    return jax.tree.map(lambda x: jnp.asarray(x)[None], outputs)
  return run

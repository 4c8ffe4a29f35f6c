"""Weights that no client changes: taken out of states, and put back.

`Variables.frozen` is an argument of a compiled window of rounds. States that
last from round to round, messages and checkpoints do not hold it.
"""

import jax

from fedjax_sim.core.types import Model, PyTree, Variables


def of(model: Model, inputs: PyTree) -> PyTree:
  """A model's frozen weights, None if it has none; `inputs` are [1, ...]."""
  key = jax.random.key(0)
  if jax.eval_shape(model.init, key, inputs).frozen is None:
    return None
  return jax.jit(lambda key, x: model.init(key, x).frozen)(key, inputs)


def without(tree: PyTree) -> PyTree:
  """The tree with all `Variables` in it without their frozen weights."""
  return put(tree, None)


def put(tree: PyTree, weights: PyTree) -> PyTree:
  """The tree with these frozen weights in all `Variables` in it."""
  is_variables = lambda x: isinstance(x, Variables)
  return jax.tree.map(
      lambda x: x._replace(frozen=weights) if is_variables(x) else x, tree,
      is_leaf=is_variables)

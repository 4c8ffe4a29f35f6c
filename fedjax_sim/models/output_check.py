"""The check that a classifier's outputs fit its data."""

import jax
from jax import numpy as jnp

from fedjax_sim.core import types


def check_outputs(
    model: types.Model,
    variables: types.Variables | jax.Array,
    examples: types.PyTree,
    num_classes: int,
) -> None:
  """Checks that a classifier fits its data, from shapes alone.

  Args:
    model: a classifier.
    variables: its `Variables`, or a key to `init` them from.
    examples: dict with `x` [B, ...] and `y` [B], or [B, ...] for sequences,
      arrays or their shapes.
    num_classes: the number of classes of the labels.

  Raises:
    ValueError: unless the labels are integers, the outputs of their shape and
      num_classes more, and the loss floats [B].
  """
  labels = examples['y']
  batch = labels.shape[:1]
  if not jnp.issubdtype(labels.dtype, jnp.integer) or not batch:
    raise ValueError(
        "the labels examples['y'] must be integers of shape [B, ...], got "
        f'{labels.dtype}{list(labels.shape)}.')
  if not isinstance(variables, types.Variables):
    variables = jax.eval_shape(model.init, variables, examples['x'])
  outputs, _ = jax.eval_shape(model.run, variables, examples['x'])
  expected = (*labels.shape, num_classes)
  if outputs.shape != expected:
    raise ValueError(
        f"the model's outputs must be of shape {list(expected)} for "
        f'{num_classes} classes, got {list(outputs.shape)}.')
  loss = jax.eval_shape(model.loss, outputs, examples)
  if loss.shape != batch or not jnp.issubdtype(loss.dtype, jnp.floating):
    raise ValueError(
        f'the loss must be floats of shape {list(batch)}, a value for each '
        f'example, got {loss.dtype}{list(loss.shape)}.')

"""What can be told of a model before any round."""

import jax

from fedjax_sim.clients import rows
from fedjax_sim.core.types import Model, PyTree
from fedjax_sim.models import output_check


def check_model(model: Model, examples: PyTree) -> None:
  """Checks what the user's functions return, and that padding has no effect.

  Args:
    model: any.
    examples: PyTree [E, ...], arrays or their shapes.

  Raises:
    ValueError: see `output_check.check_functions` and `rows.checked`.
  """
  inputs = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype),
      examples['x'])
  variables = jax.eval_shape(
      model.init, jax.eval_shape(lambda: jax.random.key(0)), inputs)
  output_check.check_functions(model, variables, examples)
  rows.checked(model, variables, examples)

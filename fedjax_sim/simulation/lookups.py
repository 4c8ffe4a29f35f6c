"""Which tables a model looks its whole-number inputs up in."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sim.core.types import Model, PyTree

# What changes neither values nor which input they are of. Slices are left out:
# of a column of its own only that column goes into a table.
_SAME_VALUES = frozenset({
    'broadcast_in_dim', 'concatenate', 'copy', 'copy_p', 'expand_dims',
    'reshape', 'rev', 'select_n', 'squeeze', 'stop_gradient', 'transpose'})


class Lookup(NamedTuple):
  """A table that an input's numbers are rows of.

  Attributes:
    path: of the input, such as "['x']['words']".
    rows: how many there are; valid numbers are 0 to rows - 1.
  """

  path: str
  rows: int


def lookups(model: Model, variables: PyTree, inputs: PyTree) -> list[Lookup]:
  """The tables that inputs go into unchanged, from the traced model.

  What is computed with first (an offset, a remainder, a clip) is left out, and
  so is a one-hot code.

  Args:
    model: the model.
    variables: its `Variables`, or their shapes.
    inputs: PyTree [B, ...] of arrays or shapes.
  """
  rows = len(jax.tree.leaves(inputs)[0])
  closed = jax.make_jaxpr(lambda v, x: model.run(
      v, x, key=jax.random.key(0), train=False,
      mask=np.ones(rows, bool))[0])(variables, inputs)
  of_inputs = jax.tree.leaves_with_path(inputs)
  held = {}
  variables_of = closed.jaxpr.invars[-len(of_inputs):]
  for variable, (path, _) in zip(variables_of, of_inputs, strict=True):
    if jax.numpy.issubdtype(variable.aval.dtype, np.integer):
      held[variable] = f"['x']{jax.tree_util.keystr(path)}"
  found: list[Lookup] = []
  _walk(closed.jaxpr, held, found)
  return list(dict.fromkeys(found))


def _walk(jaxpr: Any, held: dict[Any, str], found: list[Lookup]) -> None:
  """Follows the inputs through a program.

  Args:
    jaxpr: the program.
    held: variable -> path of the input whose numbers it holds; is added to.
    found: is added to.
  """
  for equation in jaxpr.eqns:
    of = [None if hasattr(v, 'val') else held.get(v) for v in equation.invars]
    if not any(of):
      continue
    name = equation.primitive.name
    if name == 'gather':
      _note(equation, of, found)
    elif name in _SAME_VALUES or (
        name == 'convert_element_type' and jax.numpy.issubdtype(
            equation.outvars[0].aval.dtype, np.integer)):
      held[equation.outvars[0]] = next(path for path in of if path)
    else:
      for inner in _inner(equation.params):
        _enter(equation, inner, of, held, found)


def _note(equation: Any, of: list[str | None], found: list[Lookup]) -> None:
  """Notes a gather of rows of a table, by an input's numbers."""
  table, path = equation.invars[0], of[1]
  axes = equation.params['dimension_numbers'].start_index_map
  if path is None or of[0] is not None or len(axes) != 1:
    return
  if equation.params['slice_sizes'][axes[0]] == 1:
    found.append(Lookup(path, table.aval.shape[axes[0]]))


def _inner(params: Mapping[str, Any]) -> list[Any]:
  """The programs that an equation calls."""
  values = [item for value in params.values() for item in (
      value if isinstance(value, tuple | list) else (value,))]
  plain = [getattr(value, 'jaxpr', value) for value in values]
  return [value for value in plain if hasattr(value, 'eqns')]


def _enter(equation, inner, of, held, found) -> None:
  """Follows inputs into a called program, and out of it."""
  arguments = of[-len(inner.invars):] if inner.invars else []
  if len(arguments) < len(inner.invars):
    return  # Called in a way that isn't known.
  within = {variable: path for variable, path in zip(
      inner.invars, arguments, strict=True) if path}
  _walk(inner, within, found)
  if len(inner.outvars) != len(equation.outvars):
    return
  for outer, result in zip(equation.outvars, inner.outvars, strict=True):
    path = None if hasattr(result, 'val') else within.get(result)
    if path:
      held[outer] = path

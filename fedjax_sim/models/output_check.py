"""Whether what a model, its loss and its metrics return is what it should be.

Everything is told from shapes, with a batch of a size that no other axis has,
so that a loss [B, B], [K] or [B, 1] can't pass for one of [B].
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core import masks, types
from fedjax_sim.core.types import PyTree

# Sizes of a batch to be tried: primes, which few arrays have for an axis.
_SIZES = (13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59)


def check_functions(
    model: types.Model, variables: types.Variables, examples: PyTree
) -> None:
  """Checks a model's outputs, loss and metrics, from shapes alone.

  Args:
    model: any.
    variables: its `Variables`, arrays or their shapes.
    examples: PyTree [E, ...], arrays or their shapes.

  Raises:
    ValueError: the outputs are not floats [B, ...], the loss is not floats [B],
      or the metrics are not {name: (sum [B], count [B])}; says what came, and
      how to mend it.
  """
  batch = _batch(examples, {
      size for leaf in jax.tree.leaves(variables) for size in np.shape(leaf)})
  size = len(jax.tree.leaves(batch)[0])
  mask = jax.ShapeDtypeStruct((size,), bool)
  key = jax.eval_shape(lambda: jax.random.key(0))
  returned = jax.eval_shape(
      lambda v, x, mask, key: model.run(v, x, key=key, train=False, mask=mask),
      variables, batch['x'], mask, key)
  if not isinstance(returned, tuple) or len(returned) != 2:
    raise ValueError("a Model's apply must return (outputs, model_state), got "
                     f'{_text(returned, size)}.')
  outputs, state = returned
  _check_outputs(outputs, size)
  _check_state(state, variables.model_state)
  loss = _returned('loss', model.loss, outputs, batch, mask)
  _check_loss(loss, outputs, size)
  metrics = _returned('metrics', model.metrics, outputs, batch, mask)
  _check_metrics(metrics, getattr(model.metrics, 'finish', {}), size)


def _batch(examples: PyTree, taken: set[int]) -> PyTree:
  """Shapes of a batch whose size is no other axis of it."""
  taken = taken | {
      size for leaf in jax.tree.leaves(examples) for size in leaf.shape[1:]}
  size = next((n for n in _SIZES if n not in taken), _SIZES[0])
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), examples)


def _returned(
    name: str, function: Callable[..., Any], outputs: PyTree, batch: PyTree,
    mask: jax.ShapeDtypeStruct,
) -> Any:
  """Shapes of what comes back; an exception is told with what went in."""
  try:
    return jax.eval_shape(
        lambda *args: masks.call(function, *args), outputs, batch, mask)
  except Exception as error:  # Users' functions raise many types.
    module = getattr(function, '__module__', None) or ''
    size = len(mask)
    if isinstance(error, ValueError) and module.startswith('fedjax_sim'):
      # Ours says what is wrong, but of a batch that is not the user's.
      raise ValueError(re.sub(
          rf'\[{size}(?=[,\]])', '[B', str(error))) from error
    shapes = jax.tree.map(lambda x: _text(x, size), (outputs, batch))
    called = getattr(function, '__name__', '')
    hint = (f' Optax takes labels, not examples: lambda outputs, examples: '
            f"optax.{called}(outputs, examples['y'])."
            if module.startswith('optax') else '')
    raise ValueError(
        f'the {name} {called} failed on outputs {shapes[0]} and examples '
        f'{shapes[1]}: {type(error).__name__}: {error}.{hint}') from error


def _check_outputs(outputs: PyTree, size: int) -> None:
  for leaf in jax.tree.leaves(outputs):
    if leaf.shape[:1] != (size,) or not jnp.issubdtype(
        leaf.dtype, jnp.floating):
      raise ValueError(
          "the model's outputs must be floats of shape [B, ...], a row for "
          f'each example, got {_text(leaf, size)}.')


def _check_state(new: PyTree, old: PyTree) -> None:
  shapes = [jax.tree.map(np.shape, state) for state in (new, old)]
  if shapes[0] != shapes[1]:
    raise ValueError(
        'the model changed the structure or shapes of its state from '
        f'{shapes[1]} to {shapes[0]}.')


def _check_loss(loss: Any, outputs: PyTree, size: int) -> None:
  came = _text(loss, size)
  if getattr(loss, 'shape', None) == (size,) and jnp.issubdtype(
      loss.dtype, jnp.floating):
    return
  raise ValueError(
      'the loss must be floats of shape [B], a value for each example, got '
      f'{came}. {_advice(loss, outputs, size)}')


def _advice(loss: Any, outputs: PyTree, size: int) -> str:
  """How a loss may be mended."""
  shape = getattr(loss, 'shape', None)
  if shape is None:
    return 'Return one array; metrics are a function of their own.'
  if shape == (size,):
    return 'Cast it to float32.'
  if shape == ():
    return ('Return the value of each example, without a mean or sum over '
            'axis 0: means are taken here, over examples that are not padding.')
  if shape == (size, 1):
    return 'Squeeze its last axis: loss[:, 0].'
  if shape[:2] == (size, size):
    column = [x for x in jax.tree.leaves(outputs) if x.shape == (size, 1)]
    what = ('the outputs are [B, 1], which broadcast against labels [B]: '
            'squeeze their last axis' if column else
            'two arrays have been broadcast against each other')
    return f'It seems that {what}.'
  if shape[0] == size:
    return f'Reduce it over the other axes: loss.mean({_axes(shape)}).'
  return 'Its first axis must be that of the batch.'


def _axes(shape: tuple[int, ...]) -> str:
  rest = ', '.join(map(str, range(1, len(shape))))
  return f'axis=({rest})' if len(shape) > 2 else f'axis={rest}'


def _check_metrics(metrics: Any, finish: Mapping[str, Any], size: int) -> None:
  if not isinstance(metrics, Mapping):
    raise ValueError('metrics must return a dict {name: (sum [B], count [B])}, '
                     f'got {_text(metrics, size)}.')
  for name, pair in metrics.items():
    if not isinstance(name, str) or not name or '/' in name:
      raise ValueError(
          f"a metric's name must be text without '/', got {name!r}.")
    if name == 'loss':
      raise ValueError("a metric must not be called 'loss': the mean loss is "
                       'reported without being asked for.')
    if not isinstance(pair, tuple | list) or len(pair) != 2:
      raise ValueError(
          f'metric {name!r} must be a pair (sum [B], count [B]), got '
          f'{_text(pair, size)}. Where every example counts once, the count '
          'is jnp.ones_like(sum).')
    for part, array in zip(('sum', 'count'), pair, strict=True):
      _check_part(name, part, array, name in finish, size)


def _check_part(
    name: str, part: str, array: Any, is_finished: bool, size: int) -> None:
  """Checks a metric's sum, or its count."""
  shape = getattr(array, 'shape', ())
  fits = shape[:1] == (size,) if is_finished else shape == (size,)
  if fits and not jnp.issubdtype(array.dtype, jnp.complexfloating):
    return
  raise ValueError(
      f'the {part} of metric {name!r} must be of shape [B], a value for each '
      f'example, got {_text(array, size)}. A metric is reported as sum / count '
      'of all examples; sums [B, K] need a finish (docs/losses.md).')


def _text(value: Any, size: int) -> str:
  """An array's dtype and shape, with B for the size of the batch."""
  if isinstance(value, Mapping | tuple | list):
    return f'a {type(value).__name__} of {len(value)}'
  if not hasattr(value, 'shape'):
    return f'{value!r}'
  axes = ', '.join('B' if n == size else str(n) for n in value.shape)
  return f'{value.dtype}[{axes}]'


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
      num_classes more, and loss and metrics as in `check_functions`.
  """
  labels = examples['y']
  if not jnp.issubdtype(labels.dtype, jnp.integer) or not labels.shape[:1]:
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
  check_functions(model, variables, examples)

"""Whether a model and the examples it is given fit."""

import jax
import numpy as np

from fedjax_sim.core.types import Model, PyTree
from fedjax_sim.data import federated


def check_examples(model: Model, name: str, examples: PyTree) -> None:
  """Checks, from shapes and labels, that a model fits its examples.

  Args:
    model: the model.
    name: of the examples, for errors.
    examples: PyTree [E, ...] of NumPy arrays.

  Raises:
    ValueError: the examples are no dict with `x` and `y` of one length, the
      model can't take `x`, labels that are integers are none of its classes, or
      `x` are tokens and one of them is none of its tokens.
  """
  if not (isinstance(examples, dict) and {'x', 'y'} <= set(examples)):
    raise ValueError(f'{name} examples must be a dict with keys x and y.')
  federated.num_examples(jax.tree.map(np.asarray, examples), name)
  inputs = jax.tree.map(lambda x: x[:1], examples['x'])
  outputs = jax.eval_shape(
      lambda key, x: model.run(
          model.init(key, x), x, key=key, train=False,
          mask=np.ones(1, bool))[0],
      jax.random.key(0), inputs)
  _check_labels(name, examples['y'], outputs)
  _check_tokens(name, examples['x'], examples['y'], outputs)


def _check_labels(name: str, labels: PyTree, outputs: PyTree) -> None:
  """ValueError if labels that are integers are none of the model's classes."""
  if not (hasattr(labels, 'dtype') and np.issubdtype(labels.dtype, np.integer)
          and isinstance(outputs, jax.ShapeDtypeStruct)):
    return
  low, high = int(np.min(labels)), int(np.max(labels))
  if labels.ndim == 1:
    fits = outputs.ndim == 2 and 0 <= low and high < outputs.shape[-1]
  elif outputs.ndim == labels.ndim + 1:  # Sequences; negative is no label.
    fits = (outputs.shape[1:-1] == labels.shape[1:]
            and high < outputs.shape[-1])
  else:
    return
  if not fits:
    shape = ', '.join(map(str, (1, *labels.shape[1:], 'classes')))
    raise ValueError(
        f'{name} labels run from {low} to {high}, but the model gives '
        f'outputs of shape {outputs.shape}: it needs [{shape}] with at '
        f'least {high + 1} classes.')


def _check_tokens(
    name: str, inputs: PyTree, labels: PyTree, outputs: PyTree
) -> None:
  """ValueError if labels are the inputs' next tokens, and one is unknown.

  That labels follow the inputs tells that both have one vocabulary.
  """
  tokens = (inputs, labels)
  if not (isinstance(outputs, jax.ShapeDtypeStruct) and all(
      isinstance(x, np.ndarray) and x.ndim == 2
      and np.issubdtype(x.dtype, np.integer) for x in tokens)):
    return
  if outputs.ndim != 3 or inputs.shape != labels.shape:
    return
  # The first ones tell; there may be more than memory holds.
  inside = (labels[:10_000, :-1] >= 0) & (labels[:10_000, 1:] >= 0)
  follows = labels[:10_000, :-1] == inputs[:10_000, 1:]
  if not np.all(follows | ~inside):
    return
  low, high = int(inputs.min()), int(inputs.max())
  if low < 0 or high >= outputs.shape[-1]:
    raise ValueError(
        f'{name} inputs are tokens from {low} to {high}, but the model has '
        f'{outputs.shape[-1]} of them: they must lie in 0 to '
        f'{outputs.shape[-1] - 1}, also where there is no label.')

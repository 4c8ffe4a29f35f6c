"""Models and losses by name, and the check that a model fits its data."""

import inspect
from collections.abc import Callable

import jax
from jax import numpy as jnp

from fedjax_sim.core import checks, types
from fedjax_sim.models import adapters, cnn, dense, language, losses

# name -> (num_classes, *, loss) -> Model
MODELS: dict[str, Callable[..., types.Model]] = {
    'cifar_cnn': cnn.cifar_cnn,
    'course_mlp': dense.course_mlp,
    'logistic_regression': dense.logistic_regression,
    'mnist_2nn': dense.mnist_2nn,
    'mnist_cnn': cnn.mnist_cnn,
    'shakespeare_lstm': language.shakespeare_lstm,
    'word_lstm': language.word_lstm,
}

# How a model sees uint8 pixels.
PIXELS = {'zero_to_one': adapters.as_float, 'centered': adapters.centered}


def build(
    name: str, num_classes: int, loss: str = 'cross_entropy',
    pixels: str = 'zero_to_one',
) -> types.Model:
  """Builds the model of a name.

  Args:
    name: a key of `MODELS`.
    num_classes: number of outputs; of a model of text, its vocabulary.
    loss: a key of `losses.LOSSES`.
    pixels: a key of `PIXELS`; models that scale them in a way of their own, and
      those of text, take the first only.

  Raises:
    ValueError: for an unknown name, listing the valid ones.
  """
  builder = MODELS[checks.one_of('model', name, MODELS)]
  chosen = losses.LOSSES[checks.one_of('loss', loss, losses.LOSSES)]
  preprocess = PIXELS[checks.one_of('pixels', pixels, PIXELS)]
  if pixels == 'zero_to_one':
    return builder(num_classes, loss=chosen)
  if 'preprocess' not in inspect.signature(builder).parameters:
    raise ValueError(
        f"pixels must be 'zero_to_one' for model {name!r}, got {pixels!r}.")
  return builder(num_classes, loss=chosen, preprocess=preprocess)


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

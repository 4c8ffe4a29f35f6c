"""A model: what it computes, its loss, its metrics.

An example is a dict with `x`, what a model takes, and `y`, what it should
predict; both may be pytrees. Metrics travel as (sum, count) until they are
reported, so that they can be added up in any grouping.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.core import masks, precision, short

PyTree = Any
MetricSums = Mapping[str, tuple[jax.Array, jax.Array]]


class Variables(NamedTuple):
  """What a model has learnt: the weights, and the state that it tracks.

  Attributes:
    params: PyTree of float arrays; gradients are taken in them.
    model_state: PyTree of float arrays that a forward pass in training updates
      (BatchNorm's running statistics), `{}` for most models.
    frozen: PyTree of weights that no client changes (those that a low-rank
      adapter is added to), None for most models. They are neither
      differentiated nor sent, and are no part of states and checkpoints. They
      must not depend on the key of `Model.init`.
  """

  params: PyTree
  model_state: PyTree
  frozen: PyTree = None


class Hidden(NamedTuple):
  """Which arrays of a model the units of its hidden layers belong to.

  `models.hidden_layers` makes it for layers in a row.

  Attributes:
    widths: name of a layer -> its number of units.
    axes: name of a layer -> path of an array -> the axis that counts the
      layer's units. A path looks like 'params/dense_0/kernel'. Along an axis
      that is a multiple of the width the units vary fastest, as in the
      flattened outputs of a convolution.
    narrow: `(widths) -> Model`, the model with these numbers of units.
  """

  widths: Mapping[str, int]
  axes: Mapping[str, Mapping[str, int]]
  narrow: Callable[[Mapping[str, int]], 'Model']


class Model(NamedTuple):
  """A model with its loss and metrics.

  Attributes:
    init: `(key, inputs [B, ...]) -> Variables`. Only shapes and dtypes of the
      inputs matter.
    apply: `(params, model_state, inputs [B, ...], *, key, train, mask [B]) ->
      (outputs [B, ...], model_state)`. `inputs` are in the storage dtype of
      the data, so scaling pixels is part of the model. `key` is for dropout,
      `train` a Python bool. Rows where the bool `mask` is False are padding:
      they must not influence the other rows' outputs or the state. A model
      with frozen weights is given them as `frozen=`; see `run`.
    loss: `(outputs, examples [B, ...]) -> float32 [B]`, one value an example.
      One that relates examples to each other names a keyword `mask`, bool [B],
      and leaves out the rows where it is False. docs/losses.md has what else a
      loss may say about itself.
    metrics: `(outputs, examples) -> {name: (sum [B], count [B])}`, for each
      example; it may take `mask` likewise. The loss is added to these by
      whoever evaluates.
    higher_is_better: name of a metric -> whether larger values are better; see
      `direction`.
    linen: what `to_linen` calls, None if the model is of no linen module.
    nnx: what `to_nnx` calls, None if the model is of no nnx module.
    hidden: its hidden units, None if they are not known.
  """

  init: Callable[..., Variables]
  apply: Callable[..., tuple[PyTree, PyTree]]
  loss: Callable[[PyTree, PyTree], jax.Array]
  metrics: Callable[[PyTree, PyTree], MetricSums]
  higher_is_better: Mapping[str, bool] = {}
  linen: Callable[[Variables], tuple[Any, PyTree]] | None = None
  nnx: Callable[[Variables], Any] | None = None
  hidden: Hidden | None = None

  def __repr__(self) -> str:
    return f'Model(made by {short.maker(self.apply)})'

  def direction(self, name: str) -> bool | None:
    """Whether larger values of a metric are better; None if nobody said.

    Args:
      name: of a metric, as in `metrics` or in a record ('test/accuracy').
    """
    base = name.rsplit('/', 1)[-1]
    if base == 'loss':
      return False
    stated = getattr(self.metrics, 'higher_is_better', {})
    return {**stated, **self.higher_is_better}.get(base)

  def example_losses(
      self, outputs: PyTree, examples: PyTree, mask: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """(float32 [B], bool [B]): losses, and which of them count.

    Padding does not count, nor do examples of which the loss says, by its
    attribute `counts`, that they have no label; their losses are 0.
    """
    real = self.counted(examples, mask)
    losses = masks.call(self.loss, outputs, examples, mask)
    return jnp.where(real, losses.astype(precision.scalar()), 0), real

  def counted(self, examples: PyTree, mask: jax.Array) -> jax.Array:
    """bool [B]: the rows of the mask that have anything to predict."""
    counts = getattr(self.loss, 'counts', lambda examples: None)(examples)
    return mask if counts is None else mask & counts

  def to_linen(self, variables: Variables) -> tuple[Any, PyTree]:
    """The flax linen module that the model was made of, and its variables.

    Returns:
      (module, variables), as in `module.apply(variables, x)`. The model's
      `preprocess` is no part of the module: hand it floats.

    Raises:
      ValueError: the model was not made by `models.from_linen`.
    """
    if self.linen is None:
      raise ValueError('to_linen needs a model that models.from_linen has made '
                       'of a flax.linen.Module; this one was made otherwise.')
    return self.linen(variables)

  def to_nnx(self, variables: Variables) -> Any:
    """The flax nnx module that the model was made of, with these variables.

    It is in the mode of evaluation. The model's `preprocess` is no part of it:
    hand it floats.

    Raises:
      ValueError: the model was not made by `models.from_nnx`.
    """
    if self.nnx is None:
      raise ValueError('to_nnx needs a model that models.from_nnx has made of '
                       'a flax.nnx.Module; this one was made otherwise.')
    return self.nnx(variables)

  def weighted(self, weights: Callable[[PyTree], jax.Array]) -> 'Model':
    """The model with losses times `weights(examples)`, float32 [B]."""
    def loss(outputs, examples, mask):
      return weights(examples) * masks.call(
          self.loss, outputs, examples, mask)

    loss.unweighted = self.loss
    loss.counts = getattr(self.loss, 'counts', lambda examples: None)
    return self._replace(loss=loss)

  def run(self, variables: Variables, inputs: PyTree, **options):
    """`apply` with all of the variables; `options` are its keywords."""
    if variables.frozen is not None:
      options['frozen'] = variables.frozen
    return self.apply(
        variables.params, variables.model_state, inputs, **options)

"""Losses by name, a value for each example: classes, binary, real, tokens.

Each is a function `(outputs, examples) -> float32 [B]`, and takes its options
as keywords: `huber(delta=2.0)` is a loss again (`declared.py`). All are taken
in float32 (float64 under JAX_ENABLE_X64), whatever the outputs' dtype.
"""

from collections.abc import Sequence
from typing import Any

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.core import checks, compilation, precision
from fedjax_sim.models import declared


def labelled(
    labels: jax.Array, ignore_label: int | None = None
) -> jax.Array | None:
  """bool, of the labels' shape: where there is something to predict.

  None where every label counts: those of shape [B] without an `ignore_label`.
  In sequences, [B, ...], a negative label never counts.
  """
  if ignore_label is None:
    return None if labels.ndim == 1 else labels >= 0
  real = labels != ignore_label
  return real if labels.ndim == 1 else real & (labels >= 0)


def _any_label(examples: Any, ignore_label: int | None = None):
  """bool [B]: which examples have a label; None if all have one."""
  real = labelled(examples['y'], ignore_label)
  return None if real is None else real.any(tuple(range(1, real.ndim)))


@declared.loss('classes', counts=_any_label)
def cross_entropy(
    outputs: jax.Array, examples: Any, *, ignore_label: int | None = None,
    label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None,
) -> jax.Array:
  """-log softmax(outputs)[y], in nats; for sequences the mean over labels.

  Args:
    outputs: [B, K] logits, or [B, ..., K] for sequences.
    examples: dict with `y`, int [B] or [B, ...], labels in 0 .. K - 1. In
      sequences a negative label marks a place with nothing to predict.
    ignore_label: marks examples, or places, with nothing to predict: -100 in
      PyTorch, 255 in maps of segments. They count in no mean.
    label_smoothing: the share, in [0, 1), of the target that is spread evenly
      over all classes (Szegedy et al., arXiv:1512.00567, section 7).
    class_weights: [K], multiply the loss of each label. The mean over a batch
      still divides by the number of its examples.

  Returns:
    float32 [B]: of a sequence the mean over its own labels, so that lines
    count the same whatever their length, and 0 if it has none.
  """
  labels = examples['y']
  logits = precision.floats(outputs)
  real = labelled(labels, ignore_label)
  known = labels if real is None else jnp.where(real, labels, 0)
  values = _picked(logits, known)
  if label_smoothing:
    checks.fraction('label_smoothing', label_smoothing)
    spread = jax.nn.logsumexp(logits, axis=-1) - logits.mean(axis=-1)
    values = (1 - label_smoothing) * values + label_smoothing * spread
  if class_weights is not None:
    if len(class_weights) != logits.shape[-1]:
      raise ValueError(
          f'class_weights must be {logits.shape[-1]} numbers, one for each '
          f'class, got {len(class_weights)}.')
    values *= jnp.asarray(class_weights, precision.scalar())[known]
  return _example_means(values, real)


def _picked(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """-log softmax(logits)[labels]."""
  if compilation.platform() == 'cpu':
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  # Picked by a comparison: the gradient of a gather is a scatter, whose order
  # of addition a GPU does not promise.
  chosen = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
  return jax.nn.logsumexp(logits, axis=-1) - jnp.where(
      chosen, logits, 0).sum(axis=-1)


@declared.loss('tokens', counts=_any_label)
def token_cross_entropy(
    outputs: jax.Array, examples: Any, *, ignore_label: int | None = None,
) -> jax.Array:
  """`cross_entropy` of sequences, which it insists on.

  Args:
    outputs: [B, T, K] logits.
    examples: dict with `y`, int [B, T]; negative where there is no token.
    ignore_label: marks further places without one.

  Returns:
    float32 [B], the mean over a line's own tokens, 0 if it has none.
  """
  if outputs.ndim != 3 or examples['y'].shape != outputs.shape[:2]:
    raise ValueError(
        'token_cross_entropy needs outputs [B, T, K] and labels [B, T], got '
        f'{list(outputs.shape)} and {list(examples["y"].shape)}.')
  return cross_entropy(outputs, examples, ignore_label=ignore_label)


@declared.loss('classes', counts=_any_label)
def nll_of_softmax(outputs: jax.Array, examples: Any) -> jax.Array:
  """-softmax(outputs)[y]: a log-likelihood loss fed with probabilities.

  That is no likelihood: it is what results where `torch.nn.NLLLoss`, which
  expects log-probabilities, follows a softmax, as for the MLP of
  github.com/AshwinRJ/Federated-Learning-PyTorch (`src/models.py`), from which
  the course report started. It is bounded by -1 and 0, and its gradient
  vanishes on examples that are badly wrong.

  Args:
    outputs: as in `cross_entropy`; the softmax is taken here.
    examples: as in `cross_entropy`.

  Returns:
    float32 [B], between -1 and 0; of a sequence the mean over its own labels.
  """
  labels = examples['y']
  real = labelled(labels)
  known = labels if real is None else jnp.where(real, labels, 0)
  probabilities = jax.nn.softmax(precision.floats(outputs))
  chosen = jnp.take_along_axis(
      probabilities, known[..., None], axis=-1)[..., 0]
  return _example_means(-chosen, real)


def paired(
    name: str, outputs: jax.Array, targets: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Outputs and targets of one shape, both without a last axis of 1.

  Args:
    name: whose they are, for the error.
    outputs: [B, ...].
    targets: [B, ...].

  Raises:
    ValueError: they don't fit: subtracting them would broadcast.
  """
  def without_one(x):
    return x[..., 0] if x.ndim > 1 and x.shape[-1] == 1 else x
  short = without_one(outputs), without_one(targets)
  if short[0].shape != short[1].shape:
    raise ValueError(
        f'{name} needs outputs of the shape of the targets examples["y"], got '
        f'{list(outputs.shape)} and {list(targets.shape)}.')
  return short


@declared.loss('binary', counts=_any_label)
def binary_cross_entropy(
    outputs: jax.Array, examples: Any, *, ignore_label: int | None = None,
    positive_weight: float = 1.0,
) -> jax.Array:
  """-y log sigmoid(outputs) - (1 - y) log sigmoid(-outputs), in nats.

  Args:
    outputs: [B] or [B, 1], one logit an example.
    examples: dict with `y`, [B] or [B, 1], 0 or 1.
    ignore_label: marks examples without a label. They count in no mean.
    positive_weight: multiplies the loss where y = 1.
  """
  logits, labels = paired('binary_cross_entropy', outputs, examples['y'])
  if logits.ndim != 1:
    raise ValueError(
        'binary_cross_entropy needs one logit an example, [B] or [B, 1], got '
        f'outputs {list(outputs.shape)}: multilabel_cross_entropy takes those '
        'of shape [B, K].')
  return _sigmoid_loss(logits, labels, ignore_label, positive_weight)


@declared.loss('multilabel', counts=_any_label)
def multilabel_cross_entropy(
    outputs: jax.Array, examples: Any, *, ignore_label: int | None = None,
    positive_weight: float = 1.0,
) -> jax.Array:
  """The mean of the K binary cross-entropies of an example.

  Args:
    outputs: [B, K] logits.
    examples: dict with `y`, [B, K], 0 or 1; negative where it is not known.
    ignore_label: marks further labels that are not known. The mean is over
      those that are, and an example without any counts in no mean.
    positive_weight: multiplies the loss where y = 1.
  """
  labels = examples['y']
  if outputs.shape != labels.shape or outputs.ndim != 2:
    raise ValueError(
        'multilabel_cross_entropy needs outputs and labels [B, K], got '
        f'{list(outputs.shape)} and {list(labels.shape)}.')
  return _sigmoid_loss(outputs, labels, ignore_label, positive_weight)


def _sigmoid_loss(logits, labels, ignore_label, positive_weight):
  real = labelled(labels, ignore_label)
  known = labels if real is None else jnp.where(real, labels, 0)
  known, logits = precision.floats(known), precision.floats(logits)
  values = (positive_weight * known * jax.nn.softplus(-logits)
            + (1 - known) * jax.nn.softplus(logits))
  return _example_means(values, real)


def _of_difference(name: str, outputs: jax.Array, examples: Any, value):
  """Means over an example's D outputs of value(outputs - targets)."""
  outputs, targets = paired(name, outputs, examples['y'])
  values = value(precision.floats(outputs) - precision.floats(targets))
  return values.mean(tuple(range(1, values.ndim)))


@declared.loss('real')
def mse(outputs: jax.Array, examples: Any) -> jax.Array:
  """(outputs - y)^2; the mean over the D outputs where there are several.

  Args:
    outputs: [B], [B, 1] or [B, D].
    examples: dict with `y`, numbers of as many axes, up to a last one of 1.
  """
  return _of_difference('mse', outputs, examples, jnp.square)


@declared.loss('real')
def mae(outputs: jax.Array, examples: Any) -> jax.Array:
  """|outputs - y|, with shapes as in `mse`."""
  return _of_difference('mae', outputs, examples, jnp.abs)


@declared.loss('real')
def huber(
    outputs: jax.Array, examples: Any, *, delta: float = 1.0) -> jax.Array:
  """d^2 / 2 of d = outputs - y up to |d| = delta, then linear in |d|.

  Args:
    outputs: as in `mse`.
    examples: as in `mse`.
    delta: where it becomes linear (Huber, 1964).
  """
  checks.positive('delta', delta)
  return _of_difference('huber', outputs, examples,
                        lambda d: optax.huber_loss(d, delta=delta))


@declared.loss('real', least=0)
def poisson(outputs: jax.Array, examples: Any) -> jax.Array:
  """exp(outputs) - y outputs: minus the log-likelihood of counts, less log y!.

  Args:
    outputs: logarithms of rates, shaped as in `mse`.
    examples: dict with `y`, counts.
  """
  rates, counts = paired('poisson', outputs, examples['y'])
  rates, counts = precision.floats(rates), precision.floats(counts)
  values = jnp.exp(rates) - counts * rates
  return values.mean(tuple(range(1, values.ndim)))


def _example_means(values: jax.Array, real: jax.Array | None) -> jax.Array:
  """Means of values [B, ...] over where there are labels, float32 [B]."""
  if real is None:
    return values
  axes = tuple(range(1, values.ndim))
  total = jnp.where(real, values, 0).sum(axes)
  return total / jnp.maximum(real.sum(axes), 1)


LOSSES = {one.__name__: one for one in (
    cross_entropy, nll_of_softmax, token_cross_entropy, binary_cross_entropy,
    multilabel_cross_entropy, mse, mae, huber, poisson)}

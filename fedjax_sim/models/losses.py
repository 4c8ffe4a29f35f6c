"""Losses and metrics of classifiers, a value for each example."""

from typing import Any

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.core import types


def cross_entropy(outputs: jax.Array, examples: Any) -> jax.Array:
  """-log softmax(outputs)[y], in nats; for sequences the mean over labels.

  Args:
    outputs: [B, K] logits, or [B, ..., K] for sequences.
    examples: dict with `y`, int [B] or [B, ...], labels in 0 .. K - 1. In
      sequences a negative label marks a place with nothing to predict.

  Returns:
    float32 [B]: of a sequence the mean over its own labels, so that lines
    count the same whatever their length, and 0 if it has none.
  """
  labels = examples['y']
  logits, known = outputs.astype(jnp.float32), _without_gaps(labels)
  if jax.default_backend() == 'cpu':
    values = optax.softmax_cross_entropy_with_integer_labels(logits, known)
  else:
    # Picked by a comparison: the gradient of a gather is a scatter, whose order
    # of addition a GPU does not promise.
    chosen = jax.nn.one_hot(known, logits.shape[-1], dtype=bool)
    values = jax.nn.logsumexp(logits, axis=-1) - jnp.where(
        chosen, logits, 0).sum(axis=-1)
  return _example_means(values, labels)


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
  probabilities = jax.nn.softmax(outputs.astype(jnp.float32))
  chosen = jnp.take_along_axis(
      probabilities, _without_gaps(labels)[..., None], axis=-1)[..., 0]
  return _example_means(-chosen, labels)


def classification_metrics(
    outputs: jax.Array, examples: Any
) -> types.MetricSums:
  """Accuracy: 1 where the largest output, the first of equals, is label `y`.

  In sequences every label counts once, whatever the length of its line, which
  is the accuracy by character of McMahan et al. (2016).

  Args:
    outputs: [B, K] or [B, ..., K], logits or probabilities.
    examples: dict with `y`, int [B] or [B, ...], negative as in
      `cross_entropy`.

  Returns:
    {'accuracy': (float32 [B] correct, float32 [B] labels)}.
  """
  labels = examples['y']
  correct = jnp.argmax(outputs, axis=-1) == labels
  counts = jnp.ones(labels.shape, bool) if labels.ndim == 1 else labels >= 0
  total = lambda x: x.astype(jnp.float32).sum(tuple(range(1, labels.ndim)))
  return {'accuracy': (total(correct), total(counts))}


def _without_gaps(labels: jax.Array) -> jax.Array:
  # A place without a label gets one here, since its value is not looked at.
  return labels if labels.ndim == 1 else jnp.maximum(labels, 0)


def _example_means(values: jax.Array, labels: jax.Array) -> jax.Array:
  """Means of values [B, ...] over where there are labels, float32 [B]."""
  if labels.ndim == 1:
    return values
  axes = tuple(range(1, labels.ndim))
  real = labels >= 0
  total = jnp.where(real, values, 0).sum(axes)
  return total / jnp.maximum(real.sum(axes), 1)


LOSSES = {
    'cross_entropy': cross_entropy,
    'nll_of_softmax': nll_of_softmax,
}

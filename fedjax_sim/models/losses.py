"""Losses and metrics of classifiers, a value for each example."""

from typing import Any

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.core import types


def cross_entropy(outputs: jax.Array, examples: Any) -> jax.Array:
  """-log softmax(outputs)[y], in nats.

  Args:
    outputs: [B, K] logits.
    examples: dict with `y`, int [B], labels in 0 .. K - 1.

  Returns:
    float32 [B].
  """
  return optax.softmax_cross_entropy_with_integer_labels(
      outputs.astype(jnp.float32), examples['y'])


def nll_of_softmax(outputs: jax.Array, examples: Any) -> jax.Array:
  """-softmax(outputs)[y]: a log-likelihood loss fed with probabilities.

  That is no likelihood: it is what results where `torch.nn.NLLLoss`, which
  expects log-probabilities, follows a softmax, as for the MLP of
  github.com/AshwinRJ/Federated-Learning-PyTorch (`src/models.py`), from which
  the course report started. It is bounded by -1 and 0, and its gradient
  vanishes on examples that are badly wrong.

  Args:
    outputs: [B, K] logits; the softmax is taken here.
    examples: dict with `y`, int [B], labels in 0 .. K - 1.

  Returns:
    float32 [B], between -1 and 0.
  """
  probabilities = jax.nn.softmax(outputs.astype(jnp.float32))
  labels = examples['y'][:, None]
  return -jnp.take_along_axis(probabilities, labels, axis=1)[:, 0]


def classification_metrics(
    outputs: jax.Array, examples: Any
) -> types.MetricSums:
  """Accuracy: 1 where the largest output, the first of equals, is label `y`.

  Args:
    outputs: [B, K], logits or probabilities.
    examples: dict with `y`, int [B].

  Returns:
    {'accuracy': (float32 [B], ones [B])}.
  """
  correct = jnp.argmax(outputs, axis=-1) == examples['y']
  return {'accuracy': (correct.astype(jnp.float32),
                       jnp.ones(correct.shape, jnp.float32))}


LOSSES = {
    'cross_entropy': cross_entropy,
    'nll_of_softmax': nll_of_softmax,
}

"""Models of text: the next token, given those before it."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.nn import initializers

from fedjax_sim.core import checks, types
from fedjax_sim.models import (
    adapters,
    declared,
    embedding,
    linen,
    losses,
    named_metrics,
    recurrent,
)

Initializer = Callable[..., jax.Array]

# The end of a message, and a word that is not in the vocabulary.
EOS, OOV = 2, 3


class LSTM(nn.Module):
  """The layer of `recurrent.lstm`, with its weights.

  Attributes:
    features: H, the size of the state.
    peepholes: whether gates see the cell's state; these weights start at zero.
    kernel_init: draws the kernels, each as a part of one matrix [F + H, 4H],
      which is what TensorFlow's LSTMCell draws. The bias starts at zero.
    forget_bias: added before the forget gate's sigmoid; no parameter.
  """

  features: int
  peepholes: bool = True
  kernel_init: Initializer = initializers.glorot_uniform()
  forget_bias: float = 1.0

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps sequences [B, T, F] to [B, T, H]."""
    inputs, width = x.shape[-1], self.features
    both = lambda key: self.kernel_init(
        key, (inputs + width, 4 * width), jnp.float32)
    zeros = nn.initializers.zeros_init()
    return recurrent.lstm(
        x,
        self.param('input_kernel', lambda key: both(key)[:inputs]),
        self.param('recurrent_kernel', lambda key: both(key)[inputs:]),
        self.param('bias', zeros, (4 * width,)),
        self.param('peepholes', zeros, (3, width)) if self.peepholes else None,
        forget_bias=self.forget_bias)


class TokenLSTM(nn.Module):
  """Embedding, LSTM layers, and a dense layer over the vocabulary.

  Attributes:
    vocabulary: number of tokens.
    embedding: size of a token's embedding.
    widths: the sizes of the LSTM layers.
    kernel_init: draws all matrices.
  """

  vocabulary: int
  embedding: int
  widths: tuple[int, ...]
  kernel_init: Initializer

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Maps tokens, int [B, T], to logits [B, T, vocabulary]."""
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
      raise ValueError(
          'inputs must be tokens, integers of shape [B, T], got '
          f'{tokens.dtype}{list(tokens.shape)}.')
    table = self.param(
        'embedding', self.kernel_init, (self.vocabulary, self.embedding))
    x = embedding.rows(table, tokens)
    for i, width in enumerate(self.widths):
      x = LSTM(width, kernel_init=self.kernel_init, name=f'lstm_{i}')(x)
    # All positions as the rows of one matrix: the product is faster so.
    logits = nn.Dense(
        self.vocabulary, kernel_init=self.kernel_init, name='dense')(
            x.reshape(-1, x.shape[-1]))
    return logits.reshape(*tokens.shape, self.vocabulary)


def shakespeare_lstm(
    num_classes: int = 258,
    *,
    loss: adapters.Loss = losses.cross_entropy,
    kernel_init: Initializer = initializers.glorot_uniform(),
) -> types.Model:
  """The character LSTM of the FedAvg paper.

  Embedding of 8, two LSTM layers of 256 with peepholes, a dense layer over the
  vocabulary; 866,578 parameters for 258 tokens, the paper's number. The paper
  unrolls it over 80 characters; here that is the data's T. McMahan et al.,
  arXiv:1602.05629, section 3.

  The inputs are tokens, int [B, T] in 0 .. num_classes - 1; the labels `y`,
  int [B, T], are the tokens that follow, negative where there is none to
  predict: padding at the end of a line (its tokens in `x` may be any), and
  what else should not count.

  Args:
    num_classes: the vocabulary's size.
    loss: as in `from_linen`.
    kernel_init: draws all matrices; biases and peepholes start at zero, and
      forget gates have a constant of 1 added. The default, Glorot-uniform, was
      TensorFlow's in the paper's years; the paper does not state its own.
  """
  checks.positive_int('num_classes', num_classes)
  module = TokenLSTM(num_classes, 8, (256, 256), kernel_init)
  return linen.from_linen(
      module, loss=loss, preprocess=None, fast_convolutions=False)


def word_lstm(
    num_classes: int = 10_000,
    *,
    loss: adapters.Loss = losses.cross_entropy,
    kernel_init: Initializer = initializers.glorot_uniform(),
) -> types.Model:
  """The word LSTM of the FedAvg paper's large-scale experiment.

  Embedding of 192, one LSTM layer of 256 with peepholes, a dense layer over the
  vocabulary; 4,950,544 parameters for 10,000 tokens, the paper's number. The
  paper unrolls it over 10 words; here that is the data's T. McMahan et al.,
  arXiv:1602.05629, section 3.

  Inputs and labels are those of `shakespeare_lstm`, with EOS and OOV among the
  tokens. The loss counts all labels. Of the metrics (`word_metrics`)
  `accuracy` leaves EOS and OOV out.

  Args:
    num_classes: the vocabulary's size.
    loss: as in `from_linen`.
    kernel_init: as in `shakespeare_lstm`.
  """
  checks.positive_int('num_classes', num_classes)
  module = TokenLSTM(num_classes, 192, (256,), kernel_init)
  return linen.from_linen(
      module, loss=loss, metrics=word_metrics, preprocess=None,
      fast_convolutions=False)


@declared.metrics({'accuracy': True, 'accuracy_all': True})
def word_metrics(outputs: jax.Array, examples: Any) -> types.MetricSums:
  """Accuracy by word, with and without labels that are no words.

  TensorFlow Federated's tasks on Stack Overflow report the accuracy without
  them (Reddi et al., arXiv:2003.00295, appendix): that many words are unknown
  or that a message ends is easy to predict, and of no use.

  Args:
    outputs: [B, T, K].
    examples: dict with `y`, int [B, T], negative where there is no label.

  Returns:
    {'accuracy': of labels other than EOS and OOV, 'accuracy_all': of all
    labels}, each (float32 [B] correct, float32 [B] labels).
  """
  labels = examples['y']
  words = jnp.where((labels == EOS) | (labels == OOV), -1, labels)
  sums = lambda y: named_metrics.accuracy(outputs, {'y': y})['accuracy']
  return {'accuracy': sums(words), 'accuracy_all': sums(labels)}

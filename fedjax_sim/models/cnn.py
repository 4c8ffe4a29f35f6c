"""Convolutional classifiers of images."""

import math
from collections.abc import Callable

import jax
from flax import linen as nn
from jax.nn import initializers

from fedjax_sim.core import checks, types
from fedjax_sim.models import layers, linen, losses, pooling

Initializer = Callable[..., jax.Array]


class MnistCNN(nn.Module):
  """Two convolutions, each with max-pooling, and two dense layers.

  Attributes:
    num_classes: number of outputs.
    kernel_init: draws the weights.
  """

  num_classes: int
  kernel_init: Initializer

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps images, as `mnist_cnn` takes them, to logits [B, num_classes]."""
    x = _as_images(x)
    for i, features in enumerate((32, 64)):
      x = nn.Conv(
          features, (5, 5), padding='SAME', kernel_init=self.kernel_init,
          conv_general_dilated=layers.conv_general_dilated,
          name=f'conv_{i}')(x)
      # ReLU is monotone: after the pooling it is the same, on a quarter.
      x = nn.relu(pooling.max_pool(x, (2, 2), (2, 2)))
    x = x.reshape(x.shape[0], -1)
    x = nn.Dense(512, kernel_init=self.kernel_init, name='dense_0')(x)
    return nn.Dense(
        self.num_classes, kernel_init=self.kernel_init, name='dense_1')(
            nn.relu(x))


def _as_images(x: jax.Array) -> jax.Array:
  if x.ndim == 2:
    side = math.isqrt(x.shape[1])
    if side * side != x.shape[1]:
      raise ValueError(
          f'flat inputs must be square images, got {x.shape[1]} pixels.')
    x = x.reshape(-1, side, side)
  return x[..., None] if x.ndim == 3 else x


def mnist_cnn(
    num_classes: int = 10,
    *,
    loss: Callable[..., jax.Array] = losses.cross_entropy,
    kernel_init: Initializer = initializers.glorot_uniform(),
) -> types.Model:
  """The CNN of the FedAvg paper.

  Convolution 5x5 to 32 channels, ReLU, max-pooling 2x2, convolution 5x5 to 64
  channels, ReLU, max-pooling 2x2, dense 512, ReLU, dense; 'SAME' padding.
  1,663,370 parameters on MNIST, the paper's number. McMahan et al.,
  arXiv:1602.05629, section 3.

  The inputs are images [B, h, w, c], [B, h, w], or flat [B, h * h].

  Args:
    num_classes: number of outputs.
    loss: as in `Model`.
    kernel_init: draws the weights; biases start at zero. The default,
      Glorot-uniform, was TensorFlow's in the paper's years; the paper does not
      state its own.
  """
  checks.positive_int('num_classes', num_classes)
  return linen.from_linen(MnistCNN(num_classes, kernel_init), loss=loss)

"""Convolutional classifiers of images."""

import math
from collections.abc import Callable

import jax
from flax import linen as nn
from jax.nn import initializers

from fedjax_sim.core import checks, types
from fedjax_sim.models import (
    adapters,
    augment,
    convolution,
    linen,
    losses,
    normalization,
    pooling,
)
from fedjax_sim.models.hidden import hidden_layers

Initializer = Callable[..., jax.Array]


class MnistCNN(nn.Module):
  """Two convolutions, each with max-pooling, and two dense layers.

  Attributes:
    num_classes: number of outputs.
    kernel_init: draws the weights.
    widths: channels of the convolutions, and units of the dense layer.
  """

  num_classes: int
  kernel_init: Initializer
  widths: tuple[int, int, int] = (32, 64, 512)

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps images, as `mnist_cnn` takes them, to logits [B, num_classes]."""
    x = _as_images(x)
    for i, features in enumerate(self.widths[:2]):
      x = nn.Conv(
          features, (5, 5), padding='SAME', kernel_init=self.kernel_init,
          conv_general_dilated=convolution.conv_general_dilated,
          name=f'conv_{i}')(x)
      # ReLU is monotone: after the pooling it is the same, on a quarter.
      x = nn.relu(pooling.max_pool(x, (2, 2), (2, 2)))
    x = x.reshape(x.shape[0], -1)
    x = nn.Dense(
        self.widths[2], kernel_init=self.kernel_init, name='dense_0')(x)
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
    loss: adapters.Loss = losses.cross_entropy,
    kernel_init: Initializer = initializers.glorot_uniform(),
    preprocess: Callable = adapters.as_float,
) -> types.Model:
  """The CNN of the FedAvg paper.

  Convolution 5x5 to 32 channels, ReLU, max-pooling 2x2, convolution 5x5 to 64
  channels, ReLU, max-pooling 2x2, dense 512, ReLU, dense; 'SAME' padding.
  1,663,370 parameters on MNIST, the paper's number. McMahan et al.,
  arXiv:1602.05629, section 3.

  The inputs are images [B, h, w, c], [B, h, w], or flat [B, h * h].

  Args:
    num_classes: number of outputs.
    loss: as in `from_linen`.
    kernel_init: draws the weights; biases start at zero. The default,
      Glorot-uniform, was TensorFlow's in the paper's years; the paper does not
      state its own.
    preprocess: of the pixels, `as_float` or `centered`.
  """
  checks.positive_int('num_classes', num_classes)
  widths = {'conv_0': 32, 'conv_1': 64, 'dense_0': 512}
  make = lambda widths: linen.from_linen(
      MnistCNN(num_classes, kernel_init, tuple(widths.values())), loss=loss,
      preprocess=preprocess, fast_convolutions=False)  # It names them itself.
  return make(widths)._replace(hidden=hidden_layers(widths, 'dense_1', make))


class CifarCNN(nn.Module):
  """Two convolutions, each with max-pooling and normalization; three dense.

  Attributes:
    num_classes: number of outputs.
    widths: channels of the convolutions, and units of the dense layers.
  """

  num_classes: int
  widths: tuple[int, int, int, int] = (64, 64, 384, 192)

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps float32 images [B, h, w, c] to logits [B, num_classes]."""
    pool = lambda x: pooling.max_pool(x, (3, 3), (2, 2), 'SAME')
    # ReLU after the pooling, as in `MnistCNN`.
    first, second, *dense = self.widths
    x = normalization.local_response_norm(
        nn.relu(pool(_tutorial_conv(first, 0.0)(x))))
    x = pool(normalization.local_response_norm(
        nn.relu(_tutorial_conv(second, 0.1)(x))))
    x = x.reshape(x.shape[0], -1)
    for width in dense:
      x = nn.relu(_tutorial_dense(width, 0.04, 0.1)(x))
    return _tutorial_dense(self.num_classes, 1 / 192, 0.0)(x)


def _tutorial_conv(channels: int, bias: float) -> nn.Conv:
  return nn.Conv(
      channels, (5, 5), padding='SAME',
      kernel_init=initializers.truncated_normal(0.05),
      bias_init=initializers.constant(bias),
      conv_general_dilated=convolution.conv_general_dilated)


def _tutorial_dense(width: int, deviation: float, bias: float) -> nn.Dense:
  return nn.Dense(
      width, kernel_init=initializers.truncated_normal(deviation),
      bias_init=initializers.constant(bias))


def cifar_cnn(
    num_classes: int = 10,
    *,
    loss: adapters.Loss = losses.cross_entropy,
) -> types.Model:
  """The CIFAR-10 model of the FedAvg paper, with its augmentation.

  A 24x24 crop, distorted in training (see `augment`); twice convolution 5x5 to
  64 channels, ReLU, max-pooling 3x3 at every second pixel, local response
  normalization (the second time before the pooling); dense 384, ReLU, dense
  192, ReLU, dense; 'SAME' padding. 1,068,298 parameters on CIFAR-10. McMahan et
  al., arXiv:1602.05629, section 3, take it from TensorFlow's tutorial and speak
  of about 10^6 parameters.

  Weights start as in that tutorial: normal, cut at two deviations of 0.05
  (convolutions), 0.04 (dense) and 1/192 (the last layer), biases at 0, 0.1,
  0.1, 0.1, 0. Its weight decay (0.004, half the squares of both hidden dense
  layers) is left out: the paper does not speak of one.

  The inputs are uint8 images [B, h, w, c], h and w at least 24.

  Args:
    num_classes: number of outputs.
    loss: as in `from_linen`.
  """
  checks.positive_int('num_classes', num_classes)
  widths = {'Conv_0': 64, 'Conv_1': 64, 'Dense_0': 384, 'Dense_1': 192}
  make = lambda widths: linen.from_linen(
      CifarCNN(num_classes, tuple(widths.values())), loss=loss,
      preprocess=augment.cifar_crops,
      fast_convolutions=False)  # It names them itself.
  return make(widths)._replace(hidden=hidden_layers(widths, 'Dense_2', make))

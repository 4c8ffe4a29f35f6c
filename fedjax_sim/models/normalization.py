"""Local response normalization: channels that are large damp their neighbours.

Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional
Neural Networks" (2012), section 3.3.
"""

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp


def local_response_norm(
    x: jax.Array, radius: int = 4, bias: float = 1.0, alpha: float = 1e-3 / 9
) -> jax.Array:
  """y_i = x_i / (bias + alpha * sum_{|j - i| <= radius} x_j^2)^(3/4).

  The sum is over the channels that there are. The defaults are those of
  TensorFlow's CIFAR-10 tutorial, which calls the exponent beta.

  Args:
    x: float [..., channels].
    radius: how many channels on either side.
    bias: positive.
    alpha: at least 0.

  Returns:
    Of the shape of `x`.
  """
  window = (*(1,) * (x.ndim - 1), 2 * radius + 1)
  sums = lax.reduce_window(
      jnp.square(x), np.zeros((), x.dtype), lax.add, window, (1,) * x.ndim,
      'SAME')
  # Roots and their gradients cost less than a power and its own.
  root = lax.rsqrt(bias + alpha * sums)
  return x * root * jnp.sqrt(root)

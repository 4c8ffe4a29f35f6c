"""What the CIFAR CNN is shown of an image, drawn anew for every example.

    training    a random 24x24 crop, mirrored half of the time; then
                x <- x + d,              d ~ U[-63, 63)     brightness
                x <- (x - m) c + m,      c ~ U[0.2, 1.8)    contrast
                x <- (x - a) / max(s, 1 / sqrt(n))          whitening
    evaluation  the central 24x24 crop; whitening

x are grey levels from 0 to 255, m the mean of each colour, a and s the mean and
the standard deviation of all n = 1,728 numbers of a crop. Nothing is clipped.
The steps, which McMahan et al. (2016), section 3, name without numbers, are
those of TensorFlow's CIFAR-10 tutorial of 2015 to 2017, with its numbers.
Whitening takes the brightness out again, up to rounding; contrast stays, since
it leaves the differences between the means of the colours.

An example's draws come from its own key, so they don't depend on the other
rows of a batch, nor on how many there are.
"""

from typing import NamedTuple

import jax
from jax import numpy as jnp

CROP = 24  # Pixels, height and width.
_MAX_BRIGHTNESS = 63.0  # Grey levels.
_MIN_CONTRAST, _MAX_CONTRAST = 0.2, 1.8


class Draws(NamedTuple):
  """What is random about an example.

  Attributes:
    row: int32 [], the crop's first row, from 0 to height - CROP.
    column: int32 [], its first column, likewise.
    mirrored: bool [], left is right.
    brightness: float32 [], grey levels added.
    contrast: float32 [], factor on the distance from a colour's mean.
  """

  row: jax.Array
  column: jax.Array
  mirrored: jax.Array
  brightness: jax.Array
  contrast: jax.Array


def cifar_crops(
    images: jax.Array, *, key: jax.Array | None, train: bool
) -> jax.Array:
  """Crops images, and in training distorts them; a model's `preprocess`.

  Args:
    images: uint8 [B, height, width, c], both sides at least CROP.
    key: row i's draws come from `fold_in(key, i)`; not used in evaluation.
    train: whether to distort.

  Returns:
    float32 [B, CROP, CROP, c], of mean 0 and standard deviation 1, or of all
    zeros where a crop is of one colour.

  Raises:
    ValueError: the images are of another shape, or there is no key to train
      with.
  """
  if images.ndim != 4 or min(images.shape[1:3]) < CROP:
    raise ValueError(
        f'images must be of shape [B, height, width, channels], height and '
        f'width at least {CROP}, got {list(images.shape)}.')
  rows, height, width, _ = images.shape
  if not train:
    top, left = (height - CROP) // 2, (width - CROP) // 2
    return jax.vmap(whitened)(
        images[:, top:top + CROP, left:left + CROP].astype(jnp.float32))
  if key is None:
    raise ValueError('key must be given where train is True, got None.')

  def one(row, image):
    drawn = draw(jax.random.fold_in(key, row), height, width)
    return whitened(distorted(image, drawn))

  return jax.vmap(one)(jnp.arange(rows, dtype=jnp.int32), images)


def draw(key: jax.Array, height: int, width: int) -> Draws:
  """Draws what is random about an image of `height` x `width` pixels."""
  row, column, mirrored, brightness, contrast = jax.random.uniform(key, (5,))
  place = lambda u, size: jnp.int32(u * (size - CROP + 1))
  return Draws(
      place(row, height), place(column, width), mirrored < 0.5,
      (2 * brightness - 1) * _MAX_BRIGHTNESS,
      _MIN_CONTRAST + (_MAX_CONTRAST - _MIN_CONTRAST) * contrast)


def distorted(image: jax.Array, drawn: Draws) -> jax.Array:
  """An image [height, width, c] as drawn: float32 [CROP, CROP, c].

  Rows are taken, then columns: a TPU would take windows that start elsewhere in
  each image one after the other.
  """
  along = jnp.arange(CROP, dtype=jnp.int32)
  columns = drawn.column + jnp.where(drawn.mirrored, CROP - 1 - along, along)
  x = jnp.take(image, drawn.row + along, axis=0, mode='clip')
  x = jnp.take(x, columns, axis=1, mode='clip').astype(jnp.float32)
  x = x + drawn.brightness
  mean = jnp.mean(x, axis=(0, 1), keepdims=True)
  return (x - mean) * drawn.contrast + mean


def whitened(image: jax.Array) -> jax.Array:
  """Float32 [h, w, c], minus its mean, divided by its standard deviation.

  By at least 1 / sqrt(h w c), so that an image of one colour becomes zeros.
  """
  x = image - jnp.mean(image)
  return x / jnp.sqrt(jnp.maximum(jnp.mean(x * x), 1 / x.size))

"""The CNNs, against the same in flax's own layers."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from fedjax_sim import models
from fedjax_sim.core import trees
from fedjax_sim.models import augment, cnn

KEY = jax.random.key


class Plain(nn.Module):
  """The paper's model as one writes it down."""

  @nn.compact
  def __call__(self, x):
    for i, features in enumerate((32, 64)):
      x = nn.relu(nn.Conv(features, (5, 5), name=f'conv_{i}')(x))
      x = nn.max_pool(x, (2, 2), (2, 2))
    x = x.reshape(x.shape[0], -1)
    x = nn.relu(nn.Dense(512, name='dense_0')(x))
    return nn.Dense(10, name='dense_1')(x)


class PlainCifar(nn.Module):
  """The tutorial's model, layer for layer."""

  @nn.compact
  def __call__(self, x):
    def norm(x):
      near = sum(jnp.roll(jnp.pad(x * x, [(0, 0)] * 3 + [(4, 4)]), i, -1)
                 for i in range(-4, 5))[..., 4:-4]
      return x / (1 + 0.001 / 9 * near) ** 0.75
    pool = lambda x: nn.max_pool(x, (3, 3), (2, 2), 'SAME')
    x = norm(pool(nn.relu(nn.Conv(64, (5, 5))(x))))
    x = pool(norm(nn.relu(nn.Conv(64, (5, 5))(x))))
    x = nn.relu(nn.Dense(384)(x.reshape(len(x), -1)))
    x = nn.relu(nn.Dense(192)(x))
    return nn.Dense(10)(x)


def images(rows=3, side=8):
  rng = np.random.default_rng(0)
  return np.uint8(rng.integers(0, 256, (rows, side, side, 1)))


def test_parameter_count_on_mnist():
  variables = jax.eval_shape(models.mnist_cnn().init, KEY(0), images(side=28))
  assert trees.size(variables.params) == 1663370  # The paper's number.


def test_parameter_count_on_cifar():
  x = jnp.zeros((1, 32, 32, 3), jnp.uint8)
  params = jax.eval_shape(models.cifar_cnn().init, KEY(0), x).params
  assert trees.size(params) == 1068298  # "About 10^6", the tutorial's number.


def test_equals_the_same_model_in_flax_s_layers():
  model = models.mnist_cnn()
  shapes = jax.eval_shape(model.init, KEY(0), images()).params
  # Biases that matter, so that their place would show.
  rng = np.random.default_rng(1)
  params = jax.tree.map(
      lambda p: np.float32(0.1 * rng.normal(size=p.shape)), shapes)
  labels = {'y': np.array([3, 1, 9])}
  plain = models.from_linen(Plain())

  def work(model):
    def loss(params):
      outputs, _ = model.apply(params, {}, images(), train=True)
      return model.loss(outputs, labels).mean(), outputs
    return jax.jit(jax.grad(loss, has_aux=True))(params)

  (gradient, outputs), (plain_gradient, plain_outputs) = (
      work(model), work(plain))
  np.testing.assert_allclose(outputs, plain_outputs, rtol=1e-4, atol=1e-5)
  for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(plain_gradient),
                  strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert np.any(a)


def test_cifar_equals_the_same_model_in_flax_s_layers():
  """In training, with the crops that both are shown."""
  rng = np.random.default_rng(1)
  x = rng.integers(0, 256, (2, 32, 32, 3), np.uint8)
  model = models.cifar_cnn()
  # Weights so large that normalization matters, and no unit is idle.
  params = jax.tree.map(
      lambda p: np.float32(0.3 * rng.normal(size=p.shape)),
      jax.eval_shape(model.init, KEY(0), x).params)
  labels = {'y': np.array([3, 1])}
  plain = models.from_linen(PlainCifar(), preprocess=augment.cifar_crops)

  def work(model):
    def loss(params):
      outputs, _ = model.apply(params, {}, x, key=KEY(5), train=True)
      # Of order one, so that the softmax passes all gradients on.
      return model.loss(outputs / 1e3, labels).mean(), outputs
    return jax.jit(jax.grad(loss, has_aux=True))(params)

  (gradient, outputs), (plain_gradient, plain_outputs) = (
      work(model), work(plain))
  close = lambda a, b: np.abs(a - b).max() < 1e-4 * np.abs(b).max()
  assert close(outputs, plain_outputs)
  for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(plain_gradient),
                  strict=True):
    assert close(a, b) and np.any(a)


def test_cifar_starts_as_the_tutorial_does():
  """Normals cut at two deviations: 0.8796 of the deviation is left."""
  x = np.zeros((1, 32, 32, 3), np.uint8)
  params = jax.jit(models.cifar_cnn().init)(KEY(0), x).params
  expected = {'Conv_0': (0.05, 0), 'Conv_1': (0.05, 0.1),
              'Dense_0': (0.04, 0.1), 'Dense_1': (0.04, 0.1),
              'Dense_2': (1 / 192, 0)}
  assert set(params) == set(expected)
  for name, (deviation, bias) in expected.items():
    kernel = params[name]['kernel']
    assert np.abs(kernel).max() <= 2 * deviation
    # The relative error of a deviation is about 1 / sqrt(2 n).
    np.testing.assert_allclose(
        np.std(kernel), 0.8796 * deviation, rtol=5 / np.sqrt(2 * kernel.size))
    np.testing.assert_array_equal(params[name]['bias'], np.float32(bias))


def test_images_in_any_shape_are_the_same_inputs():
  model = models.mnist_cnn()
  variables = jax.jit(model.init)(KEY(0), images())
  apply = jax.jit(model.run)
  outputs, _ = apply(variables, images())
  for shape in ((3, 8, 8), (3, 64)):
    other, _ = apply(variables, images().reshape(shape))
    np.testing.assert_array_equal(other, outputs)


def test_flat_inputs_that_are_no_square_are_an_error():
  with pytest.raises(ValueError, match='square images, got 145 pixels'):
    models.mnist_cnn().init(KEY(0), jnp.zeros((2, 145)))


@pytest.mark.parametrize('module, x, windows', [
    (cnn.MnistCNN(10, nn.initializers.ones), images(), ('reduce_window',)),
    # Its normalizations sum over windows, which is not slow; nor is the
    # gradient of that.
    (cnn.CifarCNN(10), np.zeros((3, 24, 24, 3), np.float32), ())])
def test_training_of_lanes_holds_nothing_slow(module, x, windows):
  # In the client's loop.
  model = models.from_linen(module)
  variables = jax.eval_shape(model.init, KEY(0), x)

  def gradient(params, x, y):
    def loss(params):
      outputs, _ = model.apply(params, {}, x, train=True)
      return model.loss(outputs, {'y': y}).mean()
    return jax.grad(loss)(params)

  lanes = jax.tree.map(
      lambda p: jax.ShapeDtypeStruct((2, *p.shape), p.dtype),
      (variables.params, x, jnp.zeros(3, int)))
  text = jax.jit(jax.vmap(gradient)).lower(*lanes).as_text()
  assert 'dot_general' in text
  for slow in ('convolution', 'select_and_scatter', *windows):
    assert slow not in text

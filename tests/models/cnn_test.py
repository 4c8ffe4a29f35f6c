"""The MNIST CNN, against the same in flax's own layers."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from fedjax_sim import models
from fedjax_sim.core import trees

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


def images(rows=3, side=8):
  rng = np.random.default_rng(0)
  return np.uint8(rng.integers(0, 256, (rows, side, side, 1)))


def test_parameter_count_on_mnist():
  variables = jax.eval_shape(models.mnist_cnn().init, KEY(0), images(side=28))
  assert trees.size(variables.params) == 1663370  # The paper's number.


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


def test_images_in_any_shape_are_the_same_inputs():
  model = models.mnist_cnn()
  variables = jax.jit(model.init)(KEY(0), images())
  apply = jax.jit(model.apply)
  outputs, _ = apply(*variables, images())
  for shape in ((3, 8, 8), (3, 64)):
    other, _ = apply(*variables, images().reshape(shape))
    np.testing.assert_array_equal(other, outputs)


def test_flat_inputs_that_are_no_square_are_an_error():
  with pytest.raises(ValueError, match='square images, got 145 pixels'):
    models.mnist_cnn().init(KEY(0), jnp.zeros((2, 145)))


def test_training_of_lanes_holds_no_convolution_and_no_window():
  # Either would be slow in the client's loop.
  model = models.mnist_cnn()
  variables = jax.eval_shape(model.init, KEY(0), images())

  def gradient(params, x, y):
    def loss(params):
      outputs, _ = model.apply(params, {}, x, train=True)
      return model.loss(outputs, {'y': y}).mean()
    return jax.grad(loss)(params)

  lanes = jax.tree.map(
      lambda p: jax.ShapeDtypeStruct((2, *p.shape), p.dtype),
      (variables.params, images(), jnp.zeros(3, int)))
  text = jax.jit(jax.vmap(gradient)).lower(*lanes).as_text()
  assert 'dot_general' in text
  for slow in ('convolution', 'reduce_window', 'select_and_scatter'):
    assert slow not in text

"""The dense classifiers, against NumPy and against what they cite."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.nn import initializers

from fedjax_sim import models
from fedjax_sim.core import trees
from fedjax_sim.data.sets import load as load_lib
from fedjax_sim.models import dense

KEY = jax.random.key
COUNTS = {
    models.mnist_2nn: 199210,  # The paper's number.
    models.logistic_regression: 785 * 10,
    models.course_mlp: 785 * 64 + 65 * 10,
}


def pixels(rows=4, shape=(28, 28)):
  rng = np.random.default_rng(0)
  return np.uint8(rng.integers(0, 256, (rows, *shape)))


@pytest.mark.parametrize('builder', COUNTS)
def test_parameter_counts_on_mnist(builder):
  variables = jax.eval_shape(builder().init, KEY(0), pixels())
  assert trees.size(variables.params) == COUNTS[builder]
  assert variables.model_state == {}


@pytest.mark.parametrize('builder', COUNTS)
def test_outputs_are_those_of_numpy(builder):
  model = builder(7)
  params = jax.jit(model.init)(KEY(0), pixels()).params
  outputs, _ = jax.jit(model.apply)(params, {}, pixels())
  x = np.float64(pixels()).reshape(4, -1) / 255
  if builder is models.course_mlp:
    x = (x - 0.1307) / 0.3081
  for i in range(len(params)):
    layer = params[f'dense_{i}']
    x = (np.maximum(x, 0) if i else x) @ np.float64(layer['kernel'])
    x += np.float64(layer['bias'])
  assert x.shape == outputs.shape == (4, 7)
  np.testing.assert_allclose(outputs, x, rtol=1e-4, atol=1e-5)


def test_images_in_any_shape_are_the_same_inputs():
  model = models.mnist_2nn()
  variables = jax.jit(model.init)(KEY(0), pixels())
  apply = jax.jit(model.run)
  outputs, _ = apply(variables, pixels())
  for shape in ((4, 28, 28, 1), (4, 784), (4, 14, 14, 4)):
    other, _ = apply(variables, pixels().reshape(shape))
    np.testing.assert_array_equal(other, outputs)


@pytest.mark.parametrize('builder', [*COUNTS, models.mnist_cnn])
def test_weights_are_glorot_uniform_and_biases_zero(builder):
  params = jax.jit(builder().init)(KEY(0), pixels()).params
  for layer in params.values():
    *window, fan_in, fan_out = layer['kernel'].shape
    limit = np.sqrt(6 / (np.prod(window, dtype=int) * (fan_in + fan_out)))
    scaled = np.asarray(layer['kernel']) / limit
    # Uniform on [-1, 1]: variance 1/3, fourth moment 1/5 (a normal one: 1/3).
    error = 5 / np.sqrt(scaled.size)
    assert 0.97 < np.abs(scaled).max() <= 1 + 1e-6
    assert abs(np.mean(scaled**2) - 1 / 3) < 0.3 * error
    assert abs(np.mean(scaled**4) - 1 / 5) < 0.27 * error
    np.testing.assert_array_equal(layer['bias'], 0)


@pytest.mark.parametrize('builder', [*COUNTS, models.mnist_cnn])
def test_kernel_init_and_loss_can_be_chosen(builder):
  loss = lambda outputs, examples: outputs[:, 0]
  model = builder(3, loss=loss, kernel_init=initializers.constant(2.0))
  assert model.loss is loss
  init = jax.jit(model.init)
  for layer in init(KEY(0), pixels(shape=(8, 8))).params.values():
    np.testing.assert_array_equal(layer['kernel'], 2.0)


@pytest.mark.parametrize('builder', [*COUNTS, models.mnist_cnn])
@pytest.mark.parametrize('classes', [0, -1, 2.5, '10'])
def test_a_bad_number_of_classes_is_an_error(builder, classes):
  with pytest.raises(ValueError, match='num_classes'):
    builder(classes)


def test_the_course_model_drops_half_of_its_hidden_layer():
  model = models.course_mlp(64, kernel_init=lambda key, shape, dtype: jnp.full(
      shape, 1 / 784) if shape[0] == 784 else jnp.eye(64))
  x = np.full((200, 784), 0.1307 + 0.3081, np.float32)  # 1, standardized
  variables = jax.jit(model.init)(KEY(0), x)
  hidden, _ = model.run(variables, x, key=KEY(1), train=True)
  assert set(np.unique(np.round(hidden, 4))) == {0.0, 2.0}
  # 12,800 fair draws: a standard deviation of 0.0044.
  assert abs(np.mean(np.asarray(hidden) > 0) - 0.5) < 0.02
  plain, _ = model.run(variables, x)
  np.testing.assert_allclose(plain, 1.0, rtol=1e-5)


@pytest.mark.mnist
def test_the_course_model_standardizes_by_the_moments_of_mnist():
  try:
    images = load_lib.load('mnist').train['x'] / 255
  except load_lib.DataUnavailableError as error:
    pytest.skip(str(error))
  assert round(images.mean(), 4) == dense.MNIST_MEAN
  assert round(images.std(), 4) == dense.MNIST_DEVIATION

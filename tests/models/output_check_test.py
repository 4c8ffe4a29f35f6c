"""That models learn, and the check that they fit the data."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from fedjax_sim import models

KEY = jax.random.key
MODELS = ('cifar_cnn', 'course_mlp', 'logistic_regression', 'mnist_2nn',
          'mnist_cnn', 'shakespeare_lstm', 'word_lstm')
OF_CLASSES = [name for name, loss in models.LOSSES.items()
              if loss.labels == 'classes']


def examples(rows=16, text=False, colour=False):
  """Images of noise with one bright quarter, and which one it is.

  As text, lines that count up, their ends cut off at random. In colour, images
  to be cropped and mirrored, with one colour that is bright, or none.
  """
  rng = np.random.default_rng(0)
  if colour:
    y = np.arange(rows) % 4
    x = rng.integers(0, 100, (rows, 26, 26, 3))
    x += 150 * (y[:, None] == np.arange(3))[:, None, None]
    return {'x': np.uint8(x), 'y': np.int32(y)}
  if text:
    line = (np.arange(rows)[:, None] + np.arange(6)) % 4
    real = np.arange(5) < rng.integers(1, 6, (rows, 1))
    return {'x': np.int32(line[:, :-1]),
            'y': np.int32(np.where(real, line[:, 1:], -1))}
  x = rng.integers(0, 100, (rows, 2, 4, 2, 4, 1))
  y = np.arange(rows) % 4
  x[np.arange(rows), y // 2, :, y % 2] += 150
  return {'x': np.uint8(x.reshape(rows, 8, 8, 1)), 'y': np.int32(y)}


@pytest.mark.parametrize('name, loss', [
    *((name, 'cross_entropy') for name in MODELS),
    *(('course_mlp', loss) for loss in OF_CLASSES
      if loss != 'cross_entropy')])
def test_every_model_and_every_loss_learns(name, loss):
  model = getattr(models, name)(4, loss=models.LOSSES[loss])
  assert model.loss is models.LOSSES[loss]
  text = name.endswith('_lstm')
  rate = 1.0 if text else 0.1
  colour = name == 'cifar_cnn'
  batch = examples(8 if colour else 16, text, colour)

  @jax.jit
  def train(params):
    def step(i, params):
      def mean_loss(params):
        outputs, _ = model.apply(
            params, {}, batch['x'], key=jax.random.fold_in(KEY(1), i),
            train=True)
        return model.loss(outputs, batch).mean()
      return jax.tree.map(
          lambda p, g: p - rate * g, params, jax.grad(mean_loss)(params))
    return lax.fori_loop(0, 30 if colour else 100, step, params)

  @jax.jit
  def measure(params):
    outputs, _ = model.apply(params, {}, batch['x'])
    correct, count = model.metrics(outputs, batch)['accuracy']
    return model.loss(outputs, batch).mean(), correct.sum() / count.sum()

  start = jax.jit(model.init)(KEY(0), batch['x']).params
  (loss_before, _), (loss_after, accuracy) = (
      measure(start), measure(train(start)))
  assert loss_after < loss_before - 0.2
  assert accuracy > 0.9


def test_check_outputs_accepts_what_fits_and_computes_nothing():
  model = models.mnist_cnn(10)
  rows = 10**9  # 784 GB, were they looked at.
  batch = {'x': jax.ShapeDtypeStruct((rows, 28, 28), jnp.uint8),
           'y': jax.ShapeDtypeStruct((rows,), jnp.int32)}
  models.check_outputs(model, KEY(0), batch, 10)
  models.check_outputs(
      model, jax.eval_shape(model.init, KEY(0), batch['x']), batch, 10)


@pytest.mark.parametrize('change, message', [
    (dict(num_classes=5), r'\[16, 5\] for 5 classes, got \[16, 4\]'),
    (dict(num_classes=3), r'\[16, 3\] for 3 classes, got \[16, 4\]'),
    (dict(y=jnp.zeros(16)), r'integers of shape .*, got float32\[16\]'),
    (dict(y=jnp.zeros((16, 4), jnp.int32)), r'\[16, 4, 4\].*got \[16, 4\]'),
    (dict(y=jnp.zeros((), jnp.int32)), r'got int32\[\]'),
    (dict(y=jnp.zeros(15, jnp.int32)), r'\[15, 4\].*got \[16, 4\]'),
    (dict(loss=lambda outputs, examples: outputs.mean()),
     r'floats of shape \[16\].*got float32\[\]'),
    (dict(loss=lambda outputs, examples: examples['y']), r'got int32\[16\]'),
])
def test_check_outputs_names_what_does_not_fit(change, message):
  model = models.logistic_regression(4)
  model = model._replace(loss=change.get('loss', model.loss))
  batch = examples()
  batch['y'] = change.get('y', batch['y'])
  with pytest.raises(ValueError, match=message):
    models.check_outputs(model, KEY(0), batch, change.get('num_classes', 4))


def test_importing_starts_no_backend():
  code = """
import fedjax_sim.models as models
models.mnist_cnn(10)
from jax._src import xla_bridge
assert not xla_bridge._backends, xla_bridge._backends
"""
  subprocess.run([sys.executable, '-c', code], check=True)


def test_centered_pixels_are_those_from_0_to_1_less_a_half():
  pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
  np.testing.assert_allclose(
      models.centered(pixels), np.arange(256).reshape(1, 16, 16, 1) / 255 - 0.5,
      atol=1e-7)
  floats = np.float32([[0.25]])
  assert models.centered(floats) is floats  # Not pixels: left as they are.
  plain, centered = (
      models.mnist_2nn(10, preprocess=preprocess)
      for preprocess in (models.as_float, models.centered))
  variables = plain.init(jax.random.key(0), pixels)
  run = lambda model, x: model.run(
      variables, x, key=jax.random.key(0), train=False, mask=None)[0]
  np.testing.assert_allclose(
      run(centered, pixels), run(plain, np.float32(pixels) / 255 - 0.5),
      atol=1e-6)

"""That models learn, and the check that they fit the data."""


import jax
import numpy as np
import pytest
from flax import linen as nn
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
     r'floats of shape \[B\].*got float32\[\]'),
])
def test_check_outputs_names_what_does_not_fit(change, message):
  model = models.logistic_regression(4)
  model = model._replace(loss=change.get('loss', model.loss))
  batch = examples()
  batch['y'] = change.get('y', batch['y'])
  with pytest.raises(ValueError, match=message):
    models.check_outputs(model, KEY(0), batch, change.get('num_classes', 4))


POINTS = {'x': np.zeros((6, 4), np.float32), 'y': np.zeros(6, np.float32)}


def check(outputs=1, **functions):
  model = models.from_linen(nn.Dense(outputs), **{
      'loss': models.mse, **functions})
  variables = jax.eval_shape(model.init, KEY(0), POINTS['x'])
  models.output_check.check_functions(model, variables, POINTS)


@pytest.mark.parametrize('loss, came, advice', [
    (lambda o, e: (o - e['y'][None]) ** 2, r'float32\[B, B\]',
     r'outputs are \[B, 1\].*squeeze their last axis'),
    (lambda o, e: (o[:, 0][None] - e['y'][:, None]) ** 2, r'float32\[B, B\]',
     'squeeze their last axis'),
    (lambda o, e: jnp.mean((o[:, 0] - e['y']) ** 2), r'float32\[\]',
     'without a mean or sum over axis 0'),
    (lambda o, e: (o - e['y'][:, None]) ** 2, r'float32\[B, 1\]',
     r'Squeeze its last axis: loss\[:, 0\]'),
    (lambda o, e: o * jnp.ones((1, 7)), r'float32\[B, 7\]',
     r'loss.mean\(axis=1\)'),
    (lambda o, e: o[:, :, None] * jnp.ones((1, 2, 3)), r'float32\[B, 2, 3\]',
     r'loss.mean\(axis=\(1, 2\)\)'),
    (lambda o, e: o.mean(0), r'float32\[1\]', 'first axis must be'),
    (lambda o, e: (o[:, 0] > 0).astype(int), r'int32\[B\]', 'Cast it'),
    (lambda o, e: o[:, 0] > 0, r'bool\[B\]', 'Cast it'),
    (lambda o, e: (o[:, 0], {}), 'a tuple of 2', 'Return one array'),
    (lambda o, e: {'loss': o[:, 0]}, 'a dict of 1', 'Return one array'),
    (lambda o, e: None, 'None', 'Return one array'),
    (lambda o, e: 0.5, r'float32\[\]', 'without a mean'),
])
def test_losses_that_are_no_value_of_each_example_are_refused(
    loss, came, advice):
  with pytest.raises(ValueError, match=(
      rf'the loss must be floats of shape \[B\].*got {came}.*{advice}')):
    check(loss=loss)


@pytest.mark.parametrize('metrics, message', [
    (lambda o, e: o[:, 0], r'a dict .*got float32\[B\]'),
    (lambda o, e: {'a': o[:, 0]}, r"'a' must be a pair .*float32\[B\]"),
    (lambda o, e: {'a': o[:, 0].mean()}, r"'a' must be a pair .*float32\[\]"),
    (lambda o, e: {'a': (o[:, 0], 1.0)},
     r"count of metric 'a' .*got float32\[\]"),
    (lambda o, e: {'a': (o, jnp.ones(len(o)))},
     r"sum of metric 'a' .*got float32\[B, 1\]"),
    (lambda o, e: {'a': (o[:, 0].sum(), len(o))}, "sum of metric 'a'"),
    (lambda o, e: {'loss': (o[:, 0], o[:, 0])}, "not be called 'loss'"),
    (lambda o, e: {'a/b': (o[:, 0], o[:, 0])}, "without '/', got 'a/b'"),
    (lambda o, e: {3: (o[:, 0], o[:, 0])}, 'must be text .*got 3'),
])
def test_metrics_that_are_no_pairs_for_each_example_are_refused(
    metrics, message):
  with pytest.raises(ValueError, match=message):
    check(metrics=metrics)


def test_functions_that_fail_are_named_with_what_they_were_given():
  with pytest.raises(ValueError, match=(
      r"loss <lambda> failed on outputs float32\[B, 1\] and examples "
      r"\{'x': 'float32\[B, 4\]', 'y': 'float32\[B\]'\}: KeyError: 'z'")):
    check(loss=lambda outputs, examples: examples['z'])
  with pytest.raises(ValueError, match='metrics <lambda> failed .*TypeError'):
    check(metrics=lambda outputs: {})


def test_outputs_that_are_no_floats_are_refused():
  model = models.from_functions(
      lambda key, x: {'w': jnp.zeros((4, 2))},
      lambda p, x: jnp.argmax(x @ p['w'], 1), loss=lambda o, e: 0.0 * o)
  variables = model.init(KEY(0), POINTS['x'])
  with pytest.raises(ValueError, match=r'outputs must be floats.*int32\[B\]'):
    models.output_check.check_functions(model, variables, POINTS)


@pytest.mark.parametrize('apply, message', [
    (lambda *args, **options: args[2], r'\(outputs, model_state\), got float'),
    (lambda *args, **options: (args[2], {'new': args[2]}), 'state from {} to'),
])
def test_what_else_than_outputs_and_state_comes_back_is_told(apply, message):
  model = models.from_linen(nn.Dense(1), loss=models.mse)
  variables = model.init(KEY(0), POINTS['x'])
  with pytest.raises(ValueError, match=message):
    models.output_check.check_functions(
        model._replace(apply=apply), variables, POINTS)


def test_what_fits_passes_also_in_half_precision_and_with_the_mask():
  def loss(outputs, examples, mask):
    assert mask.shape == examples['y'].shape
    return outputs[:, 0].astype(jnp.bfloat16)

  check(loss=loss, metrics=lambda o, e, mask: {
      'hits': (mask, jnp.ones_like(mask, int))})
  # Outputs as wide as the batches that are tried first.
  for outputs in (13, 17):
    check(outputs, loss=lambda o, e: o.sum(1))
    with pytest.raises(ValueError, match=r'the loss .*\[B, \d+\]'):
      check(outputs, loss=lambda o, e: o)


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


def test_an_error_of_a_loss_of_ours_is_not_of_the_batch_it_was_tried_with():
  with pytest.raises(ValueError, match=r'got \[B, 3\] and \[B\]'):
    check(outputs=3)

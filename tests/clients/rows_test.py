"""Which models are found to compute each row by itself."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from fedjax_sim import models
from fedjax_sim.clients import row_flow, rows

IMAGES = {'x': np.zeros((2, 28, 28, 1), np.uint8), 'y': np.zeros(2, np.int32)}
COLOURS = {'x': np.zeros((2, 32, 32, 3), np.uint8), 'y': np.zeros(2, np.int32)}
LINES = {'x': np.zeros((2, 6), np.int32), 'y': np.zeros((2, 6), np.int32)}
POINTS = {'x': np.zeros((2, 4), np.float32), 'y': np.zeros(2, np.int32)}


def shapes(model, examples):
  return jax.eval_shape(model.init, jax.random.key(0), examples['x'])


class Attention(nn.Module):

  @nn.compact
  def __call__(self, tokens, train=False):
    x = nn.Embed(50, 8)(tokens)
    x = x + nn.SelfAttention(2)(nn.LayerNorm()(x))
    x = nn.RNN(nn.LSTMCell(8))(nn.Dropout(0.1, deterministic=not train)(x))
    return nn.Dense(50)(x)


class Convolutions(nn.Module):

  @nn.compact
  def __call__(self, x):
    x = nn.max_pool(nn.relu(nn.Conv(4, (3, 3))(x)), (2, 2), (2, 2))
    x = nn.avg_pool(nn.GroupNorm(2)(x), (2, 2))
    return nn.Dense(10)(jax.checkpoint(nn.gelu)(x.reshape(len(x), -1)))


@pytest.mark.parametrize('model, examples', [
    (models.mnist_2nn(), IMAGES), (models.mnist_cnn(), IMAGES),
    (models.cifar_cnn(), COLOURS), (models.course_mlp(), IMAGES),
    (models.logistic_regression(), IMAGES), (models.shakespeare_lstm(), LINES),
    (models.word_lstm(50), LINES),
    (models.from_linen(Attention(), preprocess=None), LINES),
    (models.from_linen(Convolutions()), IMAGES),
    *((models.from_linen(nn.Dense(1), loss=loss), POINTS)
      for loss in (models.mse, models.binary_cross_entropy))])
def test_rows_of_usual_models_are_proved_to_be_independent(model, examples):
  assert rows.is_proved(model, shapes(model, examples), examples)


def test_so_are_losses_as_an_accelerator_computes_them(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  model = models.mnist_2nn()
  assert rows.is_proved(model, shapes(model, IMAGES), IMAGES)


def of_rows(function):
  """A model that does something to the outputs of a dense layer."""
  return models.from_functions(
      lambda key, x: {'w': jax.random.normal(key, (4, 3))},
      lambda params, x, mask: function(x @ params['w'], mask))


MIXING = {
    'mean': lambda o, mask: o - o.mean(0, keepdims=True),
    'softmax': lambda o, mask: jax.nn.softmax(o, axis=0),
    'product': lambda o, mask: (o @ o.T) @ o,
    'next': lambda o, mask: o + jnp.roll(o, 1, axis=0),
    'reversed': lambda o, mask: o[::-1],
    'sorted': lambda o, mask: jnp.sort(o, axis=0),
    'merged': lambda o, mask: o.T.reshape(o.shape),
    'pairs': lambda o, mask: (o[:, None] - o[None]).max(1),
    'first': lambda o, mask: o - o[:1],
    'running': lambda o, mask: jax.lax.scan(
        lambda c, x: (c + x, c), jnp.zeros(3), o)[1],
    'largest': lambda o, mask: o * (o >= o.max()),
    'quantized': lambda o, mask: jnp.round(
        o / jnp.abs(o).max() * 7) * jnp.abs(o).max() / 7,
    'loop': lambda o, mask: jax.lax.fori_loop(
        0, 2, lambda i, x: x - x.mean(0, keepdims=True), o),
}


@pytest.mark.parametrize('name', MIXING)
def test_what_rows_take_from_each_other_is_found_and_refused(name):
  model = of_rows(MIXING[name])
  assert not rows.is_proved(model, shapes(model, POINTS), POINTS)
  found = rows.try_out(model, shapes(model, POINTS), POINTS)
  if name in ('first', 'running'):  # Padding comes last.
    assert found == rows.Findings(mixes=True, leaks=False)
    return
  assert found == rows.Findings(mixes=True, leaks=True)
  with pytest.raises(ValueError, match=r'rows of padding.*take mask \(bool'):
    rows.checked(model, shapes(model, POINTS), POINTS)


BY_SIZE = {
    'factor': lambda o, mask: o * (len(o) / 10),
    'whole': lambda o, mask: o * len(o),
    'constant': lambda o, mask: o * np.full((1, 3), len(o), np.float32),
    'power': lambda o, mask: jnp.abs(o) ** (1 / len(o)),
    'half': lambda o, mask: jnp.concatenate(
        [o[:len(o) // 2] * 2, o[len(o) // 2:]]),
    'inner': lambda o, mask: jax.jit(lambda x: jnp.sin(x) * len(x))(o),
}


@pytest.mark.parametrize('name', BY_SIZE)
def test_use_of_the_size_of_a_batch_is_refused(name):
  model = of_rows(BY_SIZE[name])
  assert not rows.is_proved(model, shapes(model, POINTS), POINTS)
  with pytest.raises(ValueError, match='changes with the size of its batch'):
    rows.checked(model, shapes(model, POINTS), POINTS)


def test_a_loss_divided_by_the_size_of_its_batch_is_refused():
  model = models.from_linen(
      nn.Dense(3), loss=lambda o, e: models.cross_entropy(o, e) / len(o))
  with pytest.raises(ValueError, match='uses the number of rows'):
    rows.checked(model, shapes(model, POINTS), POINTS)


DRAWS = {
    # The rows in the last axis: each number depends on how many there are.
    'columns': lambda key, o: jax.random.bernoulli(key, 0.8, o.shape[::-1]).T,
    'keys': lambda key, o: jax.vmap(lambda k: jax.random.normal(k, (3,)))(
        jax.random.split(key, len(o))),
    'bytes': lambda key, o: jax.random.randint(key, o.shape, 1, 9, np.int8),
}


@pytest.mark.parametrize('name', DRAWS)
def test_one_that_draws_may_draw_by_the_size_but_not_use_it(name):
  # The first one's steps have the size in them too, and it does not matter.
  fine, wrong = (drawing(DRAWS[name], factor) for factor in (
      lambda x: jnp.ones(len(x)).mean(), len))
  for model in (fine, wrong):
    assert not rows.is_proved(model, shapes(model, POINTS), POINTS)
  assert rows.checked(fine, shapes(fine, POINTS), POINTS) == rows.Findings(
      mixes=False, leaks=False)
  with pytest.raises(ValueError, match='changes with the size of its batch'):
    rows.checked(wrong, shapes(wrong, POINTS), POINTS)


def drawing(draw, factor):
  """A model that multiplies outputs by what it draws, and by a factor."""
  def apply(params, x, key):
    outputs = x @ params['w']
    if key is not None:
      outputs *= draw(key, outputs)
    return outputs * factor(x)

  return models.from_functions(
      lambda key, x: {'w': jax.random.normal(key, (4, 3))}, apply)


def test_nothing_is_said_of_one_that_needs_the_usual_keys():
  model = drawing(lambda key, o: jax.random.normal(
      jnp.where(o.sum() > 1e9, jax.random.key(3), key), o.shape), len)
  assert not rows.checked(model, shapes(model, POINTS), POINTS).counts


def test_a_row_that_knows_its_place_is_not_cut_off():
  model = of_rows(lambda o, mask: o * np.arange(len(o))[:, None])
  found = rows.checked(model, shapes(model, POINTS), POINTS)
  assert found == rows.Findings(mixes=True, leaks=False)


def test_padding_that_is_left_out_may_stay():
  def centered(outputs, mask):
    real = jnp.where(mask[:, None], outputs, 0)
    return outputs - real.sum(0, keepdims=True) / jnp.maximum(mask.sum(), 1)

  model = of_rows(centered)
  found = rows.checked(model, shapes(model, POINTS), POINTS)
  assert found == rows.Findings(mixes=True, leaks=False)
  assert not rows.are_independent(model, shapes(model, POINTS), POINTS)


def test_padding_that_enters_a_state_is_refused():
  def apply(params, state, x, *, key, train, mask):
    del key, train, mask
    return x @ params['w'], {'mean': x.mean(0)}

  base = of_rows(lambda o, mask: o)
  model = base._replace(
      init=lambda key, x: base.init(key, x)._replace(
          model_state={'mean': jnp.zeros(4)}), apply=apply)
  with pytest.raises(ValueError, match='model state, changes with what stands'):
    rows.checked(model, shapes(model, POINTS), POINTS)


def test_what_can_not_be_proved_is_tried_out():
  model = of_rows(lambda o, mask: jnp.fft.fft(o).real)
  assert not rows.is_proved(model, shapes(model, POINTS), POINTS)
  assert rows.are_independent(model, shapes(model, POINTS), POINTS)


def test_a_model_is_looked_at_while_a_program_is_made():
  model = of_rows(lambda o, mask: o - o.mean(0, keepdims=True))
  with pytest.raises(ValueError, match='rows of padding'):
    jax.jit(lambda v: rows.are_independent(model, v, POINTS))(
        model.init(jax.random.key(0), POINTS['x']))


def test_weights_with_an_axis_of_that_size_prove_nothing():
  weights = jax.ShapeDtypeStruct((row_flow.SIZE, 2), jnp.float32)
  batch = jax.ShapeDtypeStruct((row_flow.SIZE, 2), jnp.float32)
  with pytest.raises(row_flow.UnclearError):
    row_flow.check(jnp.add, weights, batch, data=(False, True))

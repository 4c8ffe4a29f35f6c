"""What is said of data that don't fit a model, before anything runs."""

import warnings

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import numpy as jnp

from fedjax_sim import algorithms, data, models
from fedjax_sim.models import losses
from fedjax_sim.simulation import evaluation
from fedjax_sim.simulation.build import build
from fedjax_sim.simulation.check_examples import as_set, check_examples
from fedjax_sim.simulation.rounds import SimulationState

SIZE, WIDTH, CLASSES = 6, 4, 3
X = np.random.default_rng(0).normal(size=(SIZE, WIDTH)).astype(np.float32)
Y = np.arange(SIZE, dtype=np.int32) % CLASSES
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[Y]
PARTS, NAMES = [[0, 3], [1, 2, 4, 5]], ['one', 'two']


def dense(width=WIDTH, outputs=CLASSES, loss=losses.cross_entropy, **options):
  return models.from_functions(
      lambda key, x: {'w': jnp.zeros((width, outputs))},
      lambda params, x: x @ params['w'], loss=loss, **options)


def clients(x=X, y=Y):
  return data.federate({'x': x, 'y': y}, PARTS, NAMES)


def check(model, x=X, y=Y, **sets):
  check_examples(model, clients(x, y),
                 {name: as_set(name, value) for name, value in sets.items()})


# Labels


@pytest.mark.parametrize('y, message', [
    (Y.astype(np.float32), r'got float32\[6\]: use y.astype\(np.int32\)'),
    (Y + 0.5, r'got float32\[6\]: For numbers use a loss such as mse'),
    (Y > 0, r'got bool\[6\]: use y.astype\(np.int32\)'),
    (ONE_HOT, r'got float32\[6, 3\]: they are one-hot, use y.argmax\(-1\)'),
    (ONE_HOT > 0, r'one-hot, use y.argmax\(-1\)'),
    (ONE_HOT.astype(np.int32), r'of shape \[E\].*one-hot, use y.argmax'),
    (Y[:, None], r'of shape \[E\].*got \[6, 1\]: use y\[..., 0\]'),
    (Y[:, None].astype(np.float32), r'use y.astype'),
    (np.stack([Y, Y], 1), r'of shape \[E\].*got \[6, 2\]: For numbers'),
    ({'a': Y, 'b': Y}, 'must be one array, got a dict')])
def test_labels_that_are_no_classes(y, message):
  with pytest.raises(ValueError, match=rf"train\['y'\].*{message}"):
    check(dense(), y=y)
  with pytest.raises(ValueError, match=rf"test\['y'\].*{message}"):
    check(dense(), test={'x': X, 'y': y})


@pytest.mark.parametrize('y, value, example, place, end', [
    (Y + 1, 3, 2, "1 of client 'two'", ''),
    (np.where(Y == 2, 255, Y), 255, 2, "1 of client 'two'", ''),
    (Y - 1, -1, 0, "0 of client 'one'",
     r' cross_entropy\(ignore_label=-1\) leaves such examples out.')])
def test_labels_out_of_range(y, value, example, place, end):
  told = lambda part, where: (
      rf"{part}\['y'\] must be classes from 0 to 2, .*example {where} has "
      rf'{value}\.{end}$')
  with pytest.raises(ValueError, match=told('train', place)):
    check(dense(), y=y)
  with pytest.raises(ValueError, match=told('test', example)):
    check(dense(), test={'x': X, 'y': y})


def test_labels_of_one_logit_name_the_loss_for_it():
  with pytest.raises(ValueError, match='has 1. .*binary_cross_entropy'):
    check(dense(outputs=1), y=Y % 2)
  scalar = models.from_functions(
      lambda key, x: {'w': jnp.zeros(WIDTH)}, lambda params, x: x @ params['w'])
  with pytest.raises(ValueError, match='an output for each class'):
    check(scalar)


def test_labels_that_are_ignored():
  ignoring = dense(loss=losses.cross_entropy(ignore_label=-100))
  check(ignoring, y=np.where(Y == 2, -100, Y))
  with pytest.raises(ValueError, match='all are ignored'):
    check(ignoring, y=np.full(SIZE, -100))
  with pytest.raises(ValueError, match='has -99'):
    check(ignoring, y=np.where(Y == 2, -99, Y))


@pytest.mark.parametrize('loss, outputs, y', [
    (losses.binary_cross_entropy, 1, Y % 2),
    (losses.binary_cross_entropy, 1, (Y % 2)[:, None] > 0),
    (losses.multilabel_cross_entropy, 3, ONE_HOT),
    (losses.multilabel_cross_entropy, 3, ONE_HOT - 2 * (Y == 1)[:, None]),
    (losses.mse, 1, Y * 1.5), (losses.poisson, 1, Y * 100),
    (lambda o, e: jnp.zeros(len(o)), 3, Y - 100),
    (lambda o, e: jnp.zeros(len(o)), 3, {'boxes': X, 'more': Y})])
def test_labels_that_other_losses_take(loss, outputs, y):
  check(dense(outputs=outputs, loss=loss), y=y, test={'x': X, 'y': y})


@pytest.mark.parametrize('loss, y, value', [
    (losses.binary_cross_entropy, Y, 2),
    (losses.binary_cross_entropy, Y % 2 - 1, -1),
    (losses.multilabel_cross_entropy, ONE_HOT / 2, 0.5)])
def test_labels_that_are_neither_0_nor_1(loss, y, value):
  outputs = 1 if y.ndim == 1 else 3
  with pytest.raises(ValueError, match=rf"y'\] must be 0 or 1.*has {value}"):
    check(dense(outputs=outputs, loss=loss), y=y)


def test_a_loss_of_ones_own_needs_no_labels():
  model = dense(loss=lambda o, e: (o ** 2).mean(-1))
  held = data.federate({'x': X}, PARTS)
  check_examples(model, held, {'test': {'x': X}})
  with pytest.raises(ValueError, match='keys x and y, got x'):
    check_examples(dense(), held, {})
  with pytest.raises(ValueError, match='keys x, got z'):
    check_examples(model, data.federate({'z': X}, PARTS), {})


# Sets


@pytest.mark.parametrize('test, message', [
    ({'x': X[:, :3], 'y': Y}, r"test\['x'\], float32\[E, 3\], does not fit the "
     r'model, .*for train with float32\[E, 4\]'),
    ({'x': X[:, None], 'y': Y}, r"y'\] must be of shape \[E, 1\]"),
    ({'x': (X, X), 'y': Y}, "test.* must have the structure of train's"),
    ({'x': X.astype(np.uint8), 'y': Y}, "train's dtype, float32, got uint8"),
    ({'x': Y[:, None] * np.ones(4, int), 'y': Y}, "got int32"),
    ({'x': X[:0], 'y': Y[:0]}, 'test must have at least one example, got 0'),
    ({'x': X, 'y': Y[:3]}, 'got 6 and 3'), ({'x': X}, 'keys x and y, got x'),
    (X, 'keys x and y, got ndarray'), ('test', "got 'test'"),
    ({}, 'at least one array'), ({'x': X, 'y': ['a'] * 6}, 'must hold numbers'),
])
def test_sets_that_do_not_fit(test, message):
  with pytest.raises(ValueError, match=message):
    check(dense(), test=test)


@pytest.mark.parametrize('model', [
    dense(), models.from_linen(nn.Dense(CLASSES))])
@pytest.mark.parametrize('width', [1, 3, 5])
def test_a_set_of_another_width(model, width):
  x = np.zeros((SIZE, width), np.float32)
  with pytest.raises(ValueError, match=r"more\['x'\].* does not fit the model"):
    check(model, more={'x': x, 'y': Y})


def test_sets_of_other_kinds():
  pandas = pytest.importorskip('pandas')
  frame = pandas.DataFrame(X, columns=list('abcd')).assign(y=Y)
  for test in ((X, Y), {'x': X.tolist(), 'y': list(Y)}, clients(),
               {'x': frame[list('abcd')], 'y': frame['y']},
               data.from_dataframe(frame, x=list('abcd'), y='y')):
    check(dense(), test=test)
    assert as_set('test', test)['x'].shape == X.shape
  with pytest.raises(ValueError, match='test must be .*from_dataframe'):
    check(dense(), test=frame)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_numbers_that_are_not_finite(value):
  bad = X.copy()
  bad[4, 2] = value
  with pytest.raises(ValueError, match=rf"test\['x'\].* 4 holds {value}"):
    check(dense(), test={'x': bad, 'y': Y})
  # One that was made by hand, or changed in place.
  held = clients()
  held.examples['x'][4, 2] = value
  with pytest.raises(ValueError, match=rf"train\['x'\].*example 2 of client "
                     rf"'two' holds {value}"):
    check_examples(dense(), held, {})


# Inputs


@pytest.mark.parametrize('x, message', [
    (X[:, :2], r"train\['x'\] does not fit|x'\], .*does not fit"),
    (np.zeros((SIZE, 3, 8, 8), np.float32), r'x.transpose\(0, 2, 3, 1\)'),
    (np.zeros((SIZE, 2), np.uint8), 'uint8 is taken for pixels'),
    (np.zeros((SIZE, 2), np.int32), r'x.astype\(np.float32\)')])
def test_inputs_that_the_model_can_not_take(x, message):
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    with pytest.raises(ValueError, match=message):
      check(dense(), x=x)


def embedding(rows):
  return models.from_functions(
      lambda key, x: {'t': jnp.zeros((rows, CLASSES))},
      lambda params, x: params['t'][x].mean(1))


@pytest.mark.parametrize('model', [
    embedding(9), models.from_linen(nn.Sequential([
        nn.Embed(9, 5), lambda x: x.mean(1), nn.Dense(CLASSES)]))])
@pytest.mark.parametrize('value', [-1, 9])
def test_tokens_that_are_none(model, value):
  x = np.full((SIZE, 5), 8)
  check(model, x=x)
  x[2, 3] = value
  with pytest.raises(ValueError, match=r"train\['x'\] must be tokens from 0 "
                     rf"to 8.*example 1 of client 'two' has {value}"):
    check(model, x=x)
  with pytest.raises(ValueError, match=rf"test\['x'\].*example 2 has {value}"):
    check(model, x=np.full((SIZE, 5), 8), test={'x': x, 'y': Y})


@pytest.mark.parametrize('look_up', [
    lambda t, x: t[x % 9], lambda t, x: t[jnp.clip(x, 0, 8)],
    lambda t, x: t[(x[:, :1] * 0)]])
def test_what_is_computed_before_a_look_up_may_be_any(look_up):
  model = models.from_functions(
      lambda key, x: {'t': jnp.zeros((9, CLASSES))},
      lambda params, x: look_up(params['t'], x).mean(1))
  check(model, x=np.full((SIZE, 5), 1000))


def test_tables_of_several_inputs_are_told_apart():
  model = models.from_functions(
      lambda key, x: {'a': jnp.zeros((9, CLASSES)),
                      'b': jnp.zeros((2, CLASSES))},
      lambda p, x: p['a'][x['words']].mean(1) + p['b'][x['kind']])
  words, kind = np.full((SIZE, 5), 8), Y % 2
  check(model, x={'words': words, 'kind': kind})
  with pytest.raises(ValueError, match=r"\['x'\]\['kind'\] .* 0 to 1.*has 2"):
    check(model, x={'words': words, 'kind': Y})


def test_bytes_and_images_that_may_be_others_are_warned_of():
  columns = np.arange(SIZE * WIDTH, dtype=np.uint8).reshape(SIZE, WIDTH)
  with pytest.warns(UserWarning, match=r'uint8 of shape \[6, 4\], from 0 to 23'
                    '.*divide by 255'):
    check(dense(), x=columns)
  mean = models.from_functions(
      lambda key, x: {'w': jnp.zeros(CLASSES)},
      lambda params, x: x.mean((1, 2, 3))[:, None] * params['w'][None])
  with pytest.warns(UserWarning, match=r'transpose\(0, 2, 3, 1\)'):
    check(mean, x=np.zeros((SIZE, 3, 8, 8), np.uint8))
  pixels = np.full((SIZE, 784), 255, np.uint8)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    check(dense(784), x=pixels)
    check(mean, x=np.zeros((SIZE, 8, 8, 3), np.uint8))
    check(dense())


def test_evaluation_of_one_set_checks_it_too():
  model = dense()
  variables = model.init(jax.random.key(0), X)
  want = evaluation.evaluate(model, variables, {'x': X, 'y': Y})
  np.testing.assert_allclose(want['loss'], np.log(CLASSES), rtol=1e-6)
  for examples in ((X, Y), (X.tolist(), list(Y)), clients()):
    got = evaluation.evaluate(model, variables, examples)
    np.testing.assert_allclose(got['loss'], want['loss'], rtol=1e-6)
  for examples, message in (
      ((X[:, :3], Y), r"examples\['x'\], .* does not fit the model: "),
      ((X, Y + 1), 'has 3'), ((X * np.nan, Y), 'example 0 holds nan'),
      (X, 'keys x and y'), ((X[:0], Y[:0]), 'at least one example')):
    with pytest.raises(ValueError, match=message):
      evaluation.evaluate(model, variables, examples)


def test_clients_are_checked_where_each_is_evaluated():
  algorithm = algorithms.fedavg(dense(), optax.sgd(0.1))
  variables = dense().init(jax.random.key(0), X)
  state = SimulationState(
      algorithm.init(variables, jax.random.key(0), 2), (), (), ())
  run = lambda train, test: evaluation.evaluate_clients(
      dense(), algorithm, state, train, test, key=jax.random.key(0),
      new_clients=True)
  some = data.federate((X, Y), [[], [1]], NAMES, allow_empty=True)
  assert run(clients(), some).num_examples.tolist() == [0, 1]
  nobody = data.federate((X, Y), [[], []], NAMES, allow_empty=True)
  for test, message in (
      (nobody, 'test must have at least one example, no client has any'),
      (clients(X[:, :3]), r"test\['x'\], .* does not fit the model"),
      (clients(y=Y + 1), "example 1 of client 'two' has 3"),
      ((X, Y), 'test must be a federation')):
    with pytest.raises(ValueError, match=message):
      run(clients(), test)


def test_a_federation_of_empty_clients_is_told():
  nobody = data.federate((X, Y), [[], []], NAMES, allow_empty=True)
  model = models.logistic_regression(3)
  with pytest.raises(ValueError, match='train must have at least one example'):
    build(model, algorithms.fedavg(model, optax.sgd(0.1)), nobody,
          data.sampling.uniform(2, 1, 0))

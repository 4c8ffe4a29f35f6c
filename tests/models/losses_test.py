"""Losses against their definitions in float64 NumPy."""

import jax
import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from jax import numpy as jnp

from fedjax_sim.models import losses
from fedjax_sim.models import named_metrics as metrics_lib

OF_CLASSES = (losses.cross_entropy, losses.nll_of_softmax)


def batch(seed=0, rows=7, classes=5, scale=3.0):
  rng = np.random.default_rng(seed)
  outputs = scale * rng.normal(size=(rows, classes))
  return outputs, {'y': rng.integers(0, classes, rows)}


def softmax(outputs):
  powers = np.exp(outputs - outputs.max(1, keepdims=True))
  return powers / powers.sum(1, keepdims=True)


def test_cross_entropy_is_minus_the_log_of_the_label_s_probability():
  outputs, examples = batch()
  value = losses.cross_entropy(jnp.float32(outputs), examples)
  chosen = softmax(outputs)[np.arange(7), examples['y']]
  np.testing.assert_allclose(value, -np.log(chosen), rtol=1e-5)
  assert value.dtype == jnp.float32


def test_cross_entropy_is_finite_for_huge_logits():
  outputs = jnp.array([[1e6, -1e6], [1e6, -1e6]])
  value = losses.cross_entropy(outputs, {'y': jnp.array([0, 1])})
  np.testing.assert_array_equal(value, [0, 2e6])


def test_cross_entropy_s_gradient_is_probability_minus_indicator():
  outputs, examples = batch()
  gradient = jax.grad(
      lambda x: losses.cross_entropy(x, examples).sum())(jnp.float32(outputs))
  expected = softmax(outputs) - np.eye(5)[examples['y']]
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_nll_of_softmax_is_minus_the_label_s_probability():
  outputs, examples = batch()
  value = losses.nll_of_softmax(jnp.float32(outputs), examples)
  chosen = softmax(outputs)[np.arange(7), examples['y']]
  np.testing.assert_allclose(value, -chosen, rtol=1e-5)
  assert value.dtype == jnp.float32


def test_nll_of_softmax_s_gradient_is_scaled_by_the_probability():
  outputs, examples = batch()
  gradient = jax.grad(
      lambda x: losses.nll_of_softmax(x, examples).sum())(jnp.float32(outputs))
  p = softmax(outputs)
  chosen = p[np.arange(7), examples['y']][:, None]
  expected = chosen * (p - np.eye(5)[examples['y']])
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_losses_of_bfloat16_outputs_are_taken_in_float32():
  outputs, examples = batch()
  narrow = jnp.bfloat16(outputs)
  for loss in OF_CLASSES:
    value = loss(narrow, examples)
    assert value.dtype == jnp.float32
    np.testing.assert_array_equal(
        value, loss(narrow.astype(jnp.float32), examples))


def test_accuracy_counts_largest_outputs_and_the_first_of_equals():
  outputs = jnp.array([[0.1, 0.9, 0], [2, 1, 0], [1, 1, 0], [1, 1, 0]])
  metrics = metrics_lib.accuracy(
      outputs, {'y': jnp.array([1, 2, 0, 1])})
  assert set(metrics) == {'accuracy'}
  correct, count = metrics['accuracy']
  np.testing.assert_array_equal(correct, [1, 0, 1, 0])
  np.testing.assert_array_equal(count, [1, 1, 1, 1])
  assert correct.dtype == count.dtype == jnp.float32


# Three lines of 4, 1 and no labels; one gap is inside of a line.
LABELS = np.array([[2, 0, 1, 4, -1], [-1, 3, -1, -1, -1], [-1] * 5])


@pytest.mark.parametrize('loss', OF_CLASSES)
def test_of_a_sequence_losses_are_means_over_its_labels(loss):
  outputs = jnp.float32(batch(rows=15)[0].reshape(3, 5, 5))
  value, gradient = jax.value_and_grad(
      lambda x: loss(x, {'y': LABELS}).sum())(outputs)
  each = loss(outputs.reshape(15, 5), {'y': np.maximum(LABELS, 0).ravel()})
  each = np.asarray(each).reshape(3, 5)
  expected = [each[0, :4].mean(), each[1, 1], 0]
  np.testing.assert_allclose(
      loss(outputs, {'y': LABELS}), expected, rtol=1e-6)
  np.testing.assert_allclose(value, sum(expected), rtol=1e-6)
  np.testing.assert_array_equal(
      np.any(gradient != 0, axis=2), LABELS >= 0)


@pytest.mark.parametrize('loss', OF_CLASSES)
def test_what_is_predicted_without_a_label_has_no_influence(loss):
  outputs = jnp.float32(batch(rows=15)[0].reshape(3, 5, 5))
  poison = jnp.where((LABELS < 0)[..., None], jnp.nan, outputs)
  for f in (loss, metrics_lib.accuracy):
    a, b = f(outputs, {'y': LABELS}), f(poison, {'y': LABELS})
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_accuracy_of_sequences_counts_every_label_once():
  outputs = jnp.zeros((3, 5, 5)).at[0, :2, 2].set(1).at[:, :, 0].add(0.5)
  correct, count = metrics_lib.accuracy(
      outputs, {'y': LABELS})['accuracy']
  # Predicted are [2, 2, 0, 0, 0] and zeros: one of four labels, none, none.
  np.testing.assert_array_equal(correct, [1, 0, 0])
  np.testing.assert_array_equal(count, [4, 1, 0])
  assert correct.dtype == count.dtype == jnp.float32


def test_a_loss_of_keywords_alone_is_the_loss_with_these_options():
  outputs, examples = jnp.array([0.0, 3.0]), {'y': jnp.array([0.5, 0.0])}
  np.testing.assert_allclose(losses.huber(outputs, examples), [0.125, 2.5])
  wide = losses.huber(delta=2.0)
  np.testing.assert_allclose(wide(outputs, examples), [0.125, 4.0])
  assert wide.labels == losses.huber.labels == 'real'
  assert (wide.options, losses.huber.options) == ({'delta': 2}, {'delta': 1})
  with pytest.raises(TypeError, match="huber has no option 'beta', only delta"):
    losses.huber(beta=1)
  with pytest.raises(TypeError, match=r'its options as keywords \(delta\)'):
    losses.huber(2.0)


def test_ignored_labels_are_told_and_their_outputs_have_no_gradient():
  loss = losses.cross_entropy(ignore_label=255)
  outputs, examples = batch(rows=3)
  labels = np.array([4, 255, 0])
  np.testing.assert_array_equal(loss.counts({'y': labels}), [1, 0, 1])
  assert losses.cross_entropy.counts({'y': labels}) is None
  gradient = jax.grad(lambda x: jnp.where(
      loss.counts({'y': labels}), loss(x, {'y': labels}), 0).sum())(
          jnp.float32(outputs))
  np.testing.assert_array_equal(np.any(gradient != 0, 1), [1, 0, 1])
  lines = np.array([[255, 1], [-1, 255], [255, 255]])
  np.testing.assert_array_equal(loss.counts({'y': lines}), [1, 0, 0])


def test_smoothing_and_class_weights_by_their_definitions():
  outputs, examples = batch()
  targets = 0.9 * np.eye(5)[examples['y']] + 0.1 / 5
  np.testing.assert_allclose(
      losses.cross_entropy(
          jnp.float32(outputs), examples, label_smoothing=0.1),
      -(targets * np.log(softmax(outputs))).sum(1), rtol=1e-5)
  weights = np.array([1.0, 2.0, 0.0, 0.5, 3.0])
  np.testing.assert_allclose(
      losses.cross_entropy(
          jnp.float32(outputs), examples, class_weights=weights.tolist()),
      weights[examples['y']] * losses.cross_entropy(
          jnp.float32(outputs), examples), rtol=1e-6)


@pytest.mark.parametrize('shape', [(6,), (6, 1)])
def test_binary_cross_entropy_is_sklearn_s_log_loss(shape):
  logits = np.random.default_rng(0).normal(size=6)
  labels = np.array([0, 1, 1, 0, 1, 0])
  value = losses.binary_cross_entropy(
      jnp.float32(logits).reshape(shape), {'y': labels})
  assert value.shape == (6,)
  np.testing.assert_allclose(np.mean(value), sklearn.metrics.log_loss(
      labels, 1 / (1 + np.exp(-logits))), rtol=1e-6)
  weighted = losses.binary_cross_entropy(positive_weight=3.0)(
      jnp.float32(logits).reshape(shape), {'y': labels})
  np.testing.assert_allclose(weighted / value, 1 + 2 * labels, rtol=1e-5)


def test_of_several_labels_those_not_known_are_left_out():
  rng = np.random.default_rng(0)
  logits, labels = rng.normal(size=(4, 3)), rng.integers(0, 2, (4, 3))
  each = losses.binary_cross_entropy(
      jnp.float32(logits.ravel()), {'y': labels.ravel()}).reshape(4, 3)
  labels[0, 1], labels[2] = -1, 7
  loss = losses.multilabel_cross_entropy(ignore_label=7)
  value = loss(jnp.float32(logits), {'y': labels})
  expected = [(each[0, 0] + each[0, 2]) / 2, each[1].mean(), 0, each[3].mean()]
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  np.testing.assert_array_equal(loss.counts({'y': labels}), [1, 1, 0, 1])


@pytest.mark.parametrize('outputs, targets', [
    ((5,), (5,)), ((5, 1), (5,)), ((5,), (5, 1)), ((5, 3), (5, 3))])
def test_losses_of_real_numbers_are_sklearn_s(outputs, targets):
  rng = np.random.default_rng(1)
  found = rng.normal(size=outputs).astype(np.float32)
  wanted = rng.poisson(2.0, size=targets)
  flat = wanted.reshape(5, -1), found.reshape(5, -1)
  for loss, reference in (
      (losses.mse, sklearn.metrics.mean_squared_error),
      (losses.mae, sklearn.metrics.mean_absolute_error)):
    value = loss(found, {'y': wanted})
    assert value.shape == (5,) and value.dtype == jnp.float32
    np.testing.assert_allclose(np.mean(value), reference(*flat), rtol=1e-5)
  # Half of the deviance, which subtracts what a perfect rate would give.
  rates = flat[1]
  perfect = scipy.special.xlogy(flat[0], flat[0]) - flat[0]
  np.testing.assert_allclose(
      np.mean(losses.poisson(found, {'y': wanted})) + perfect.mean(),
      sklearn.metrics.mean_poisson_deviance(
          flat[0].ravel(), np.exp(rates).ravel()) / 2, rtol=1e-5)


@pytest.mark.parametrize('loss, outputs, labels', [
    (losses.mse, (5, 3), (5,)), (losses.huber, (5,), (5, 2)),
    (losses.binary_cross_entropy, (5, 2), (5, 2)),
    (losses.binary_cross_entropy, (5, 2), (5,)),
    (losses.multilabel_cross_entropy, (5, 2), (5,)),
    (losses.token_cross_entropy, (5, 2), (5,))])
def test_shapes_that_would_broadcast_are_refused_by_name(
    loss, outputs, labels):
  with pytest.raises(ValueError, match=f'{loss.__name__} needs'):
    loss(jnp.zeros(outputs), {'y': jnp.zeros(labels, int)})

"""Losses against their definitions in float64 NumPy."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim.models import losses


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
  for loss in losses.LOSSES.values():
    value = loss(narrow, examples)
    assert value.dtype == jnp.float32
    np.testing.assert_array_equal(
        value, loss(narrow.astype(jnp.float32), examples))


def test_accuracy_counts_largest_outputs_and_the_first_of_equals():
  outputs = jnp.array([[0.1, 0.9, 0], [2, 1, 0], [1, 1, 0], [1, 1, 0]])
  metrics = losses.classification_metrics(
      outputs, {'y': jnp.array([1, 2, 0, 1])})
  assert set(metrics) == {'accuracy'}
  correct, count = metrics['accuracy']
  np.testing.assert_array_equal(correct, [1, 0, 1, 0])
  np.testing.assert_array_equal(count, [1, 1, 1, 1])
  assert correct.dtype == count.dtype == jnp.float32


# Three lines of 4, 1 and no labels; one gap is inside of a line.
LABELS = np.array([[2, 0, 1, 4, -1], [-1, 3, -1, -1, -1], [-1] * 5])


@pytest.mark.parametrize('loss', losses.LOSSES.values())
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


@pytest.mark.parametrize('loss', losses.LOSSES.values())
def test_what_is_predicted_without_a_label_has_no_influence(loss):
  outputs = jnp.float32(batch(rows=15)[0].reshape(3, 5, 5))
  poison = jnp.where((LABELS < 0)[..., None], jnp.nan, outputs)
  for f in (loss, losses.classification_metrics):
    a, b = f(outputs, {'y': LABELS}), f(poison, {'y': LABELS})
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_accuracy_of_sequences_counts_every_label_once():
  outputs = jnp.zeros((3, 5, 5)).at[0, :2, 2].set(1).at[:, :, 0].add(0.5)
  correct, count = losses.classification_metrics(
      outputs, {'y': LABELS})['accuracy']
  # Predicted are [2, 2, 0, 0, 0] and zeros: one of four labels, none, none.
  np.testing.assert_array_equal(correct, [1, 0, 0])
  np.testing.assert_array_equal(count, [4, 1, 0])
  assert correct.dtype == count.dtype == jnp.float32

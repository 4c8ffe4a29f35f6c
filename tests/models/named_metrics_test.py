"""Metrics by name against scikit-learn, in batches of any size."""

import jax
import numpy as np
import pytest
import sklearn.metrics
from jax import numpy as jnp

from fedjax_sim.models import declared, losses
from fedjax_sim.models import named_metrics as metrics

ROWS = 211


def value_of(metric, outputs, examples, cut=ROWS):
  """The metric's value from its sums over two batches."""
  totals = {}
  for part in (slice(0, cut), slice(cut, None)):
    sums = metric(jnp.asarray(outputs[part]), {
        'y': jnp.asarray(examples['y'][part])})
    sums = jax.tree.map(lambda x: jnp.sum(x, 0, dtype=jnp.float32), sums)
    totals = jax.tree.map(jnp.add, totals, sums) if totals else sums
  (name, (total, count)), = totals.items()
  if name in metric.finish:
    total, count = metric.finish[name](total, count)
  assert name in metric.higher_is_better
  assert np.shape(total) == np.shape(count) == ()
  return float(total / count)


def classes(kinds=4, ties=False):
  rng = np.random.default_rng(0)
  scores = rng.normal(size=(ROWS, kinds)).astype(np.float32)
  labels = np.where(rng.random(ROWS) < 0.5, scores.argmax(1),
                    rng.integers(0, kinds, ROWS))
  return (np.round(scores) if ties else scores), labels


def yes_or_no(shape=(ROWS,)):
  rng = np.random.default_rng(1)
  logits = rng.normal(size=shape).astype(np.float32)
  return logits, (logits + rng.normal(size=shape) > 0.5).astype(np.int32)


@pytest.mark.parametrize('cut', [0, 1, 100])
@pytest.mark.parametrize('ties', [False, True])
def test_metrics_of_classes(cut, ties):
  scores, labels = classes(ties=ties)
  of = lambda metric: value_of(metric, scores, {'y': labels}, cut)
  predicted = scores.argmax(1)
  for average in ('macro', 'micro'):
    np.testing.assert_allclose(
        of(metrics.f1(average=average)),
        sklearn.metrics.f1_score(labels, predicted, average=average),
        rtol=1e-6)
  np.testing.assert_allclose(of(metrics.accuracy), np.mean(
      labels == predicted), rtol=1e-6)
  order = np.argsort(-scores, axis=1, kind='stable')
  np.testing.assert_allclose(of(metrics.top_k(k=2)), np.mean(
      [label in row[:2] for label, row in zip(labels, order, strict=True)]),
      rtol=1e-6)
  odds = jax.nn.softmax(scores)
  expected = [sklearn.metrics.roc_auc_score(labels == k, odds[:, k])
              for k in range(4)]
  np.testing.assert_allclose(of(metrics.auc), np.mean(expected), atol=2e-3)


@pytest.mark.parametrize('shape', [(ROWS,), (ROWS, 1)])
@pytest.mark.parametrize('scale', [1e-2, 1.0, 1e2])
def test_metrics_of_0_or_1(shape, scale):
  logits, labels = yes_or_no()
  of = lambda metric: value_of(
      metric, scale * logits.reshape(shape), {'y': labels})
  np.testing.assert_allclose(
      of(metrics.auc), sklearn.metrics.roc_auc_score(labels, logits), atol=3e-3)
  np.testing.assert_allclose(
      of(metrics.f1), sklearn.metrics.f1_score(labels, logits > 0), rtol=1e-6)
  np.testing.assert_allclose(
      of(metrics.accuracy), np.mean(labels == (logits > 0)), rtol=1e-6)


def test_ties_in_auc_count_one_half():
  logits, labels = yes_or_no()
  logits = np.round(logits)  # Equal ones fall in one bin, others do not.
  np.testing.assert_allclose(
      value_of(metrics.auc, logits, {'y': labels}),
      sklearn.metrics.roc_auc_score(labels, logits), rtol=1e-5)


def test_metrics_of_several_labels():
  logits, labels = yes_or_no((ROWS, 3))
  of = lambda metric: value_of(metric, logits, {'y': labels})
  np.testing.assert_allclose(of(metrics.auc), sklearn.metrics.roc_auc_score(
      labels, logits, average='macro'), atol=3e-3)
  for average in ('macro', 'micro'):
    np.testing.assert_allclose(
        of(metrics.f1(average=average)), sklearn.metrics.f1_score(
            labels, logits > 0, average=average), rtol=1e-6)


@pytest.mark.parametrize('shape', [(ROWS,), (ROWS, 1), (ROWS, 3)])
def test_metrics_of_real_numbers(shape):
  rng = np.random.default_rng(2)
  targets = rng.normal(3.0, size=shape).astype(np.float32)
  found = targets + rng.normal(size=shape).astype(np.float32)
  of = lambda metric: value_of(metric, found, {'y': targets}, 50)
  np.testing.assert_allclose(of(metrics.mae), sklearn.metrics.
                             mean_absolute_error(targets, found), rtol=1e-5)
  flat = targets.reshape(ROWS, -1), found.reshape(ROWS, -1)
  np.testing.assert_allclose(
      of(metrics.rmse), np.sqrt(np.mean((flat[0] - flat[1]) ** 2)), rtol=1e-5)
  np.testing.assert_allclose(
      of(metrics.r2), sklearn.metrics.r2_score(*flat), atol=1e-5)


@pytest.mark.parametrize('offset, told', [(50, True), (200, False)])
def test_r2_is_right_or_not_told(offset, told):
  rng = np.random.default_rng(3)
  targets = rng.normal(offset, size=ROWS).astype(np.float32)
  found = targets + rng.normal(size=ROWS).astype(np.float32) / 2
  value = value_of(metrics.r2, found, {'y': targets}, 50)
  if told:
    np.testing.assert_allclose(
        value, sklearn.metrics.r2_score(targets, found), atol=0.01)
  else:
    assert np.isnan(value)


def test_what_has_no_value_has_no_count():
  for metric, outputs, labels in (
      (metrics.auc, np.float32([1, 2]), np.array([1, 1])),
      (metrics.r2, np.float32([1, 2]), np.float32([3.3, 3.3])),
      (metrics.f1, np.float32([-1, -2]), np.array([0, 0]))):
    (name, sums), = metric(outputs, {'y': labels}).items()
    total, count = metric.finish[name](*(np.sum(x, 0) for x in sums))
    assert (float(total), float(count)) == (0, 0)


def test_ignored_labels_are_left_out_of_every_metric():
  scores, labels = classes()
  ignored = np.arange(ROWS) % 3 == 0
  changed = np.where(ignored, 255, labels)
  for metric in (metrics.accuracy, metrics.top_k(k=2), metrics.f1, metrics.auc):
    np.testing.assert_allclose(
        value_of(metric(ignore_label=255), scores, {'y': changed}),
        value_of(metric, scores[~ignored], {'y': labels[~ignored]}), rtol=1e-5)


@pytest.mark.parametrize('loss, names', [
    (losses.cross_entropy, ['accuracy']), (losses.huber, ['mae']),
    (losses.binary_cross_entropy, ['accuracy']), (losses.poisson, ['mae'])])
def test_default_metrics_follow_the_loss(loss, names):
  default = metrics.default_metrics(loss)
  examples = {'y': jnp.zeros(2, int)}
  outputs = jnp.zeros((2, 3) if loss is losses.cross_entropy else 2)
  assert list(default(outputs, examples)) == names
  assert default.is_default
  assert not hasattr(metrics.accuracy, 'is_default')


def test_own_losses_have_accuracy_only_of_classes():
  default = metrics.default_metrics(lambda outputs, examples: outputs)
  of = lambda shape, dtype: list(default(
      jnp.zeros(shape), {'y': jnp.zeros(2, dtype)}))
  assert of((2, 3), int) == ['accuracy']
  assert of((2, 1), int) == of((2,), int) == of((2, 3), float) == []
  assert default(jnp.zeros((2, 3)), {}) == {}


def test_ignored_labels_of_a_loss_are_those_of_its_default_metrics():
  default = metrics.default_metrics(losses.cross_entropy(ignore_label=9))
  _, count = default(jnp.zeros((2, 3)), {'y': jnp.array([9, 1])})['accuracy']
  np.testing.assert_array_equal(count, [0, 1])


def test_several_metrics_keep_what_each_says():
  both = metrics.all_of(metrics.accuracy, metrics.top_k(k=3), metrics.auc)
  assert both.higher_is_better == {
      'accuracy': True, 'top_3': True, 'auc': True}
  assert list(both.finish) == ['auc']
  twice = metrics.all_of(metrics.accuracy, metrics.accuracy)
  with pytest.raises(ValueError, match="got 'accuracy' twice"):
    twice(jnp.zeros((2, 3)), {'y': jnp.zeros(2, int)})


def test_labels_of_a_loss_are_of_a_known_kind():
  assert {loss.labels for loss in losses.LOSSES.values()} == set(
      declared.LABELS)
  with pytest.raises(ValueError, match="labels must be one of .*'klasses'"):
    declared.loss('klasses')

"""Losses and metrics by name in whole runs: records, sweeps, each client."""

import jax
import numpy as np
import optax
import pytest
import sklearn.metrics
from flax import linen as nn
from jax import numpy as jnp

import fedjax_sim as fs
from fedjax_sim import algorithms, models
from fedjax_sim.data.federated import federate
from fedjax_sim.models import losses
from fedjax_sim.models import named_metrics as metrics
from fedjax_sim.simulation import evaluation
from tests import toys

SIZES = (9, 20, 14)


class Line(nn.Module):

  @nn.compact
  def __call__(self, x):
    return nn.Dense(1)(x)


def data(kind='binary'):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(sum(SIZES), 4)).astype(np.float32)
  y = x @ np.float32([1, -2, 0.5, 0]) + rng.normal(size=len(x))
  y = (y > 0).astype(np.int32) if kind == 'binary' else np.float32(y)
  return federate({'x': x, 'y': y}, toys.partition_of(SIZES))


def run(model, train, rounds=2, **options):
  return fs.simulate(
      model, algorithms.fedavg(model, optax.sgd(0.1), **options), train,
      rounds=rounds, clients_per_round=2, test=train.examples, devices=1,
      lanes=2)


def binary_model():
  return models.from_linen(
      Line(), loss=losses.binary_cross_entropy,
      metrics=[metrics.auc, metrics.f1(average='micro'), metrics.accuracy])


def test_records_have_metrics_that_add_up_arrays():
  train, model = data(), binary_model()
  result = run(model, train)
  logits, _ = model.run(result.variables, train.examples['x'])
  labels, logits = train.examples['y'], np.asarray(logits[:, 0])
  last = result.records[-1]
  assert last['test/auc'] == pytest.approx(
      sklearn.metrics.roc_auc_score(labels, logits), abs=2e-3)
  assert last['test/f1'] == pytest.approx(
      sklearn.metrics.f1_score(labels, logits > 0), rel=1e-6)
  assert last['test/loss'] == pytest.approx(
      sklearn.metrics.log_loss(labels, 1 / (1 + np.exp(-logits))), rel=1e-5)
  whole = evaluation.evaluate(
      model, result.variables, train.examples, batch_size=7)
  assert whole == pytest.approx(
      {name: last[f'test/{name}'] for name in whole}, rel=1e-5)
  found = evaluation.evaluate_clients(
      model, algorithms.fedavg(model, optax.sgd(0.1)), result.state, train,
      train, key=jax.random.key(0), batch_size=8)
  ends = np.cumsum(SIZES)
  for k, (begin, end) in enumerate(zip(ends - SIZES, ends, strict=True)):
    assert found.values['auc'][k] == pytest.approx(
        sklearn.metrics.roc_auc_score(
            labels[begin:end], logits[begin:end]), abs=2e-3)
  assert found.summary()['auc/worst'] == found.values['auc'].min()


@pytest.mark.parametrize('loss', [losses.mse, losses.huber(delta=2.0)])
def test_a_regression_reports_no_accuracy_and_its_worst_is_the_largest(loss):
  train, model = data('real'), models.from_linen(Line(), loss=loss)
  result = run(model, train)
  assert 'test/mae' in result.records[-1]
  assert not any('accuracy' in name for name in result.records[-1])
  assert model.direction('test/mae') is model.direction('test/loss') is False
  found = evaluation.evaluate_clients(
      model, algorithms.fedavg(model, optax.sgd(0.1)), result.state, train,
      train, key=jax.random.key(0))
  assert found.summary()['mae/worst'] == found.values['mae'].max()


def test_a_sweep_has_the_metrics_of_a_single_run():
  train, model = data(), binary_model()
  one = run(model, train)
  results = fs.sweep(
      model, lambda rate: algorithms.fedavg(model, optax.sgd(rate)), train,
      rounds=2, seeds=[0], learning_rates=[0.1], clients_per_round=2,
      test=train.examples)
  many = results[0, 0.1]
  for name in ('test/auc', 'test/f1', 'test/loss'):
    assert many.records[-1][name] == pytest.approx(
        one.records[-1][name], rel=1e-5)


def test_wrong_functions_are_told_before_a_round():
  train = data('real')
  model = models.from_linen(
      Line(), loss=lambda outputs, e: (outputs - e['y'][None]) ** 2)
  with pytest.raises(ValueError, match=r'the loss must be floats of shape '
                     r'\[B\].*got float32\[B, B\].*squeeze'):
    run(model, train)


@pytest.mark.parametrize('given, message', [
    ({'metrics': [losses.mae]}, 'got mae, which is a loss.*metrics.mae, or'),
    ({'metrics': losses.mse}, 'got mse, which is a loss'),
    ({'metrics': [lambda o, e: o.mean()]},
     r'an array of shape \[\] from the function <lambda>'),
    ({'metrics': lambda o, e: o.mean()}, 'metrics must return a dict'),
    ({'metrics': ['acuracy']}, "metrics must be one of .*'acuracy'"),
    ({'metrics': [3]}, 'metrics must be names or functions .* got 3'),
    ({'loss': optax.softmax_cross_entropy_with_integer_labels},
     'the loss softmax_cross_entropy_with_integer_labels failed on outputs'),
    ({'loss': lambda outputs: outputs[:, 0]}, 'the loss <lambda> failed'),
])
def test_a_wrong_loss_or_metric_is_named(given, message):
  with pytest.raises(ValueError, match=message):
    run(models.from_linen(Line(), **{
        'loss': losses.binary_cross_entropy, **given}), data())


def test_metrics_by_name_are_those():
  named = models.from_linen(
      Line(), loss=losses.binary_cross_entropy, metrics=['auc', 'accuracy'])
  assert named.higher_is_better == {'auc': True, 'accuracy': True}
  one = models.with_loss(named, metrics='f1')
  assert one.metrics is metrics.f1


class Normed(nn.Module):

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.BatchNorm(use_running_average=not train)(x)
    return nn.Dense(3)(x)


def test_all_local_data_at_once_is_one_batch_of_them():
  """Clients of 300 exceed a micro-batch; BatchNorm still sees all of them."""
  train = toys.softmax_data([300, 300])
  model = models.from_linen(Normed())
  a, b = (fs.simulate(
      model, algorithms.fedavg(model, optax.sgd(0.1), batch_size=size), train,
      rounds=2, clients_per_round=2, devices=1, lanes=1)
      for size in (None, 300))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(
      x, y, rtol=2e-5, atol=2e-6), a.variables, b.variables)


def test_fedsgd_leaves_examples_without_a_label_out_of_its_means():
  """As if the client did not have them, but for its weight."""
  whole = toys.softmax_data([6, 6])
  labelled = np.arange(12) % 2 == 0
  some = federate(
      {'x': np.where(labelled[:, None], whole.examples['x'], 1e6),
       'y': np.where(labelled, whole.examples['y'], -100)},
      toys.partition_of([6, 6]))
  few = federate(jax.tree.map(lambda x: x[labelled], whole.examples),
                 toys.partition_of([3, 3]))
  model = models.from_linen(
      nn.Dense(3), loss=losses.cross_entropy(ignore_label=-100))
  for algorithm in (
      algorithms.fedsgd(model, 0.1),
      algorithms.fedavg(model, optax.sgd(0.1), batch_size=None)):
    a, b = (fs.simulate(model, algorithm, train, rounds=2, clients_per_round=2,
                        test=train.examples, devices=1, lanes=1)
            for train in (some, few))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(
        x, y, rtol=1e-5, atol=1e-6), a.variables, b.variables)
    for name in ('train/loss', 'test/loss', 'test/accuracy'):
      assert a.records[-1][name] == pytest.approx(
          b.records[-1][name], rel=1e-5)
    assert jnp.isfinite(a.records[-1]['test/loss'])


@pytest.mark.parametrize('wrap', [list, lambda ms: metrics.all_of(*ms)])
def test_metrics_leave_out_what_the_loss_ignores(wrap):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(60, 4)).astype(np.float32)
  y = np.where(np.arange(60) % 3 == 0, 255, np.arange(60) % 2).astype(np.int32)
  own = lambda outputs, examples: {
      'own': (examples['y'].astype(np.float32), jnp.ones(len(outputs)))}
  model = models.from_linen(
      nn.Dense(3), loss=losses.cross_entropy(ignore_label=255),
      metrics=wrap([metrics.accuracy, metrics.f1, metrics.auc, own]))
  variables = model.init(jax.random.key(0), x)
  known = y != 255
  expected = evaluation.evaluate(
      model, variables, {'x': x[known], 'y': y[known]})
  assert expected['own'] == pytest.approx(y[known].mean())
  found = evaluation.evaluate(model, variables, {'x': x, 'y': y}, batch_size=7)
  assert found == pytest.approx(expected, rel=1e-6)


def test_metrics_leave_out_the_places_that_the_loss_ignores():
  model = models.from_functions(
      lambda key, x: {}, lambda params, x: jax.nn.one_hot(x, 4),
      loss=losses.cross_entropy(ignore_label=3),
      metrics=[metrics.accuracy])
  x = np.int32([[0, 1, 2], [1, 1, 1]])
  y = np.int32([[0, 2, 3], [3, 3, 3]])
  variables = model.init(jax.random.key(0), x)
  found = evaluation.evaluate(model, variables, {'x': x, 'y': y})
  assert found['accuracy'] == 0.5


@pytest.mark.parametrize('metric', [
    metrics.accuracy, metrics.f1(average='micro'), metrics.auc, metrics.top_k])
def test_metrics_of_classes_are_refused_with_a_loss_of_numbers(metric):
  for chosen in (metric, [metrics.mae, metric]):
    with pytest.raises(ValueError, match='needs classes, the loss huber takes'):
      models.from_linen(Line(), loss=losses.huber, metrics=chosen)
  model = models.from_linen(
      Line(), loss=losses.binary_cross_entropy, metrics=metric)
  with pytest.raises(ValueError, match='the loss mse takes real numbers'):
    models.with_loss(model, losses.mse)


def test_negative_counts_are_refused():
  model = models.from_linen(Line(), loss=losses.poisson)
  x = np.ones((3, 4), np.float32)
  variables = model.init(jax.random.key(0), x)
  evaluation.evaluate(model, variables, {'x': x, 'y': np.float32([0, 1, 2])})
  with pytest.raises(ValueError, match='at least 0 for poisson.*has -1.5'):
    evaluation.evaluate(
        model, variables, {'x': x, 'y': np.float32([0, -1.5, 2])})

"""The LSTMs: their sizes, outputs, padding, metrics, and a federation."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from jax.nn import initializers

import fedjax_sim
from fedjax_sim import algorithms, models
from fedjax_sim.core import trees
from fedjax_sim.data import federated
from fedjax_sim.models import language
from fedjax_sim.simulation import check_examples
from tests.models import numpy_lstm

KEY = jax.random.key
VOCABULARY = 5


def small(loss=models.cross_entropy):
  """The model with layers small enough to train in a test."""
  module = language.TokenLSTM(
      VOCABULARY, 3, (16, 16), initializers.glorot_uniform())
  return models.from_linen(module, loss=loss, preprocess=None)


def lines(rows=24, steps=7, seed=0):
  """Lines that count up modulo the vocabulary, of 1 to 7 tokens.

  Behind a line's end come token 0 and label -1.
  """
  rng = np.random.default_rng(seed)
  start = rng.integers(0, VOCABULARY, (rows, 1))
  line = (start + np.arange(steps + 1)) % VOCABULARY
  real = np.arange(steps) < rng.integers(1, steps + 1, (rows, 1))
  return {'x': np.int32(np.where(real, line[:, :-1], 0)),
          'y': np.int32(np.where(real, line[:, 1:], -1))}


@pytest.mark.parametrize('model, steps, size', [
    (models.shakespeare_lstm, 80, 866_578), (models.word_lstm, 10, 4_950_544)])
def test_the_paper_s_number_of_parameters(model, steps, size):
  tokens = jax.ShapeDtypeStruct((2, steps), jnp.int16)
  variables = jax.eval_shape(model().init, KEY(0), tokens)
  assert trees.size(variables.params) == size
  assert variables.model_state == {}


def test_outputs_are_those_of_numpy():
  model, batch = small(), lines()
  params = jax.jit(model.init)(KEY(0), batch['x']).params
  for layer in ('lstm_0', 'lstm_1'):  # Not zeros, so that they count.
    params[layer]['peepholes'] = jax.random.normal(KEY(1), (3, 16))
  outputs, _ = jax.jit(model.apply)(params, {}, batch['x'])
  double = jax.tree.map(np.float64, params)
  h = double['embedding'][batch['x']]
  for layer in ('lstm_0', 'lstm_1'):
    h = numpy_lstm.lstm(h, **double[layer])
  expected = h @ double['dense']['kernel'] + double['dense']['bias']
  assert outputs.shape == (24, 7, VOCABULARY)
  np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_kernels_are_parts_of_one_glorot_uniform_matrix():
  params = jax.jit(models.shakespeare_lstm().init)(
      KEY(0), jnp.zeros((1, 2), jnp.int32)).params
  for layer, inputs in (('lstm_0', 8), ('lstm_1', 256)):
    limit = np.sqrt(6 / (inputs + 256 + 1024))
    for name, rows in (('input_kernel', inputs), ('recurrent_kernel', 256)):
      kernel = np.asarray(params[layer][name]) / limit
      assert kernel.shape == (rows, 1024)
      assert 0.97 < np.abs(kernel).max() <= 1 + 1e-6
      # Of uniform draws in [-1, 1]: 1/3, its deviation sqrt(4/45 / size).
      assert abs(np.mean(kernel**2) - 1 / 3) < 1.5 / np.sqrt(kernel.size)
    np.testing.assert_array_equal(params[layer]['bias'], 0)
    np.testing.assert_array_equal(params[layer]['peepholes'], 0)


def test_tokens_behind_the_last_label_change_nothing():
  model, batch = small(), lines()
  padding = batch['y'] < 0
  other = np.where(padding, VOCABULARY - 1, batch['x'])
  params = jax.jit(model.init)(KEY(0), batch['x']).params

  @jax.jit
  def measure(params, x):
    def mean_loss(params):
      outputs, _ = model.apply(params, {}, x)
      return model.loss(outputs, batch).mean(), model.metrics(outputs, batch)
    return jax.value_and_grad(mean_loss, has_aux=True)(params)

  one, two = measure(params, batch['x']), measure(params, other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
  outputs = [model.apply(params, {}, x)[0] for x in (batch['x'], other)]
  assert np.any(outputs[0] != outputs[1])


@pytest.mark.long
@pytest.mark.slow
def test_a_federation_of_lines_is_learnt_and_lanes_don_t_matter():
  model, examples = small(), lines(48)
  data = federated.federate(examples, np.split(np.arange(48), [10, 30, 42]))
  algorithm = algorithms.fedavg(
      model, optax.sgd(2.0), epochs=5, batch_size=4)
  results = [
      fedjax_sim.simulate(
          model, algorithm, data, rounds=8, clients_per_round=3,
          test=lines(30, seed=1), eval_every=8, lanes=lanes)
      for lanes in (1, 3)]
  first, last = results[0].records[1], results[0].records[-1]
  assert last['train/loss'] < first['train/loss'] / 4
  assert last['test/accuracy'] > 0.95
  for a, b in zip(*(jax.tree.leaves(r.variables) for r in results),
                  strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_labels_outside_of_the_vocabulary_are_an_error():
  examples = lines()
  examples['y'][3, 0] = VOCABULARY
  data = federated.federate(examples, [np.arange(24)])
  algorithm = algorithms.fedavg(small(), optax.sgd(0.1))
  with pytest.raises(ValueError, match='from 0 to 4, .*example 3 .*has 5'):
    fedjax_sim.simulate(
        small(), algorithm, data, rounds=1, clients_per_round=1)


def test_tokens_outside_of_the_vocabulary_are_an_error():
  for token in (VOCABULARY, -1):
    examples = lines()
    examples['x'][0, 0] = token  # The first, which is no label.
    data = federated.federate(examples, [np.arange(24)])
    algorithm = algorithms.fedavg(small(), optax.sgd(0.1))
    with pytest.raises(ValueError, match=f'tokens from 0 to 4.* has {token}'):
      fedjax_sim.simulate(
          small(), algorithm, data, rounds=1, clients_per_round=1)


def test_labels_of_another_vocabulary_than_the_inputs_are_fine():
  examples = lines()
  examples['y'] = np.where(examples['x'] % 2, 1, 0)  # Tags, not next tokens.
  check_examples.check_examples(small(), federated.single(examples), {})
  examples['x'] = examples['x'] + VOCABULARY
  with pytest.raises(ValueError, match=f'tokens from 0 to {VOCABULARY - 1}'):
    check_examples.check_examples(small(), federated.single(examples), {})


@pytest.mark.parametrize('model, tokens', [
    (models.shakespeare_lstm, 258), (models.word_lstm, 10_000)])
def test_16_bits_hold_every_token(model, tokens):
  """Outputs, loss and gradients are those of 32 bits, to the last token."""
  rng = np.random.default_rng(0)
  line = rng.integers(0, tokens, (3, 4))
  line[:, 1] = tokens - 1
  examples = {'x': line[:, :-1], 'y': line[:, 1:].copy()}
  examples['y'][0, 2] = -1
  model = model()
  params = jax.jit(model.init)(KEY(0), np.int32(examples['x'])).params

  @jax.jit
  def measure(params, batch):
    def mean_loss(params):
      outputs, _ = model.apply(params, {}, batch['x'])
      return model.loss(outputs, batch).mean(), model.metrics(outputs, batch)
    return jax.value_and_grad(mean_loss, has_aux=True)(params)

  one, two = (measure(params, jax.tree.map(dtype, examples))
              for dtype in (np.int16, np.int32))
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    assert np.isfinite(a).all()
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9)


def test_word_accuracy_with_and_without_ends_and_unknown_words():
  eos, oov = language.EOS, language.OOV
  labels = np.array([[5, 6, oov, eos, -1], [eos, -1, -1, -1, -1],
                     [7, 7, 7, oov, oov]])
  guess = np.array([[5, 7, oov, 5, 5], [eos, eos, eos, eos, eos],
                    [7, 7, oov, 7, oov]])
  metrics = language.word_metrics(
      jax.nn.one_hot(guess, 8), {'y': jnp.asarray(labels)})
  expected = {'accuracy': ([1, 0, 2], [2, 0, 3]),
              'accuracy_all': ([2, 1, 3], [4, 1, 5])}
  assert metrics.keys() == expected.keys()
  for name, (correct, count) in expected.items():
    np.testing.assert_array_equal(metrics[name][0], correct)
    np.testing.assert_array_equal(metrics[name][1], count)


def test_the_word_loss_counts_ends_and_unknown_words():
  outputs = jnp.zeros((1, 3, 8)).at[0, 1, language.OOV].set(3.0)
  labels = {'y': jnp.array([[4, language.OOV, language.EOS]])}
  denominators = np.array([8, 7 + np.exp(3), 8])
  expected = np.mean(np.log(denominators) - [0, 3, 0])
  np.testing.assert_allclose(
      models.word_lstm(8).loss(outputs, labels), [expected], rtol=1e-6)


def test_tokens_outside_of_the_vocabulary_give_nan():
  model = small()
  variables = jax.jit(model.init)(KEY(0), lines()['x'])
  tokens = np.array([[0, 1, VOCABULARY, 0], [0, 1, 2, 3]])
  outputs, _ = model.run(variables, tokens)
  assert np.isfinite(outputs[0, :2]).all() and np.isnan(outputs[0, 2:]).all()
  assert np.isfinite(outputs[1]).all()


@pytest.mark.parametrize('inputs', [
    jnp.zeros((2, 7)), jnp.zeros((2, 7, 1), jnp.int32)])
def test_inputs_that_are_no_tokens_are_an_error(inputs):
  with pytest.raises(ValueError, match=r'tokens, integers of shape \[B, T\]'):
    small().init(KEY(0), inputs)


@pytest.mark.parametrize('classes', [0, -1, 2.5, '10'])
def test_a_bad_vocabulary_is_an_error(classes):
  with pytest.raises(ValueError, match='num_classes'):
    models.shakespeare_lstm(classes)
  with pytest.raises(ValueError, match='num_classes'):
    models.word_lstm(classes)

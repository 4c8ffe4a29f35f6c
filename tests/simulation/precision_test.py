"""Products carry the precision that was asked for, whatever JAX is set to."""

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import lax

from fedjax_sim import algorithms, data, models
from fedjax_sim.core import compilation, products
from fedjax_sim.data import sampling
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation import sweep as sweep_lib
from fedjax_sim.simulation.job_size import _jaxprs_of
from tests import toys

IMAGES = {'x': np.zeros((2, 28, 28, 1), np.uint8), 'y': np.zeros(2, np.int32)}
COLOURS = {'x': np.zeros((2, 32, 32, 3), np.uint8), 'y': np.zeros(2, np.int32)}
LINES = {'x': np.zeros((2, 6), np.int32), 'y': np.zeros((2, 6), np.int32)}


class Flax(nn.Module):
  """Convolutions that are rewritten, one that is not, and a plain cell."""

  @nn.compact
  def __call__(self, x):
    x = nn.max_pool(nn.relu(nn.Conv(4, (3, 3))(x)), (2, 2), (2, 2))
    x = nn.ConvTranspose(2, (2, 2))(x)
    x = nn.RNN(nn.LSTMCell(8))(x.reshape(len(x), 14, -1))
    return nn.Dense(10)(x[:, -1])


@pytest.fixture
def on(monkeypatch):
  """Traces as if the devices were of another platform."""
  return lambda platform: monkeypatch.setattr(
      compilation, 'platform_of', lambda device: platform)


def build(model, examples, precision, algorithm=None):
  return build_lib.build(
      model,
      algorithm or algorithms.fedavg(model, optax.sgd(0.1), batch_size=1),
      data.from_clients([examples, examples]), sampling.uniform(2, 2, seed=0),
      test=examples, devices=1, lanes=2, precision=precision)


def levels(jaxpr):
  """Of all products of floats in a program, at any depth."""
  found = set()
  for eqn in jaxpr.eqns:
    if eqn.primitive.name in ('dot_general', 'conv_general_dilated') and (
        eqn.invars[0].aval.dtype == np.float32):
      found.add(eqn.params['precision'])
    for inner in _jaxprs_of(eqn):
      found |= levels(inner)
  return found


@pytest.mark.parametrize('model, examples', [
    (models.mnist_2nn(), IMAGES), (models.mnist_cnn(), IMAGES),
    (models.cifar_cnn(), COLOURS), (models.course_mlp(), IMAGES),
    (models.logistic_regression(), IMAGES), (models.shakespeare_lstm(), LINES),
    (models.word_lstm(50), LINES), (models.from_linen(Flax()), IMAGES)])
def test_every_product_of_a_round_has_the_precision(on, model, examples):
  """Forward, backward, and in the evaluation."""
  on('gpu')
  with jax.default_matmul_precision('bfloat16'):
    program = build(model, examples, 'highest').program
    assert levels(program.traced.jaxpr.jaxpr) == {(lax.Precision.HIGHEST,) * 2}


@pytest.mark.parametrize('platform', ['cpu', 'gpu', 'tpu'])
def test_the_default_is_what_the_platform_does_by_itself(on, platform):
  on(platform)
  level = lax.Precision.DEFAULT
  model = toys.softmax_model()
  with jax.default_matmul_precision(
      'highest' if platform == 'cpu' else None):
    examples = toys.softmax_data((2,)).examples
    traced = build(model, examples, 'auto').program.traced
  assert levels(traced.jaxpr.jaxpr) == {(level, level)}


@pytest.mark.parametrize('precision, level', [
    ('highest', lax.Precision.HIGHEST), ('tensorfloat32', lax.Precision.HIGH),
    ('bfloat16', lax.Precision.DEFAULT)])
def test_a_tpu_has_all_of_them(on, precision, level):
  on('tpu')
  examples = toys.softmax_data((2,)).examples
  traced = build(toys.softmax_model(), examples, precision).program.traced
  assert levels(traced.jaxpr.jaxpr) == {(level, level)}


def test_a_layer_may_ask_for_more():
  model = models.from_linen(nn.Dense(10, precision='highest'))
  examples = {'x': np.zeros((2, 4), np.float32), 'y': np.zeros(2, np.int32)}
  traced = build(model, examples, 'tensorfloat32').program.traced
  assert levels(traced.jaxpr.jaxpr) == {(lax.Precision.HIGHEST,) * 2}


def test_so_have_those_of_a_sweep(on):
  on('gpu')
  model, train = toys.softmax_model(), toys.softmax_data((3, 2))
  sweep = sweep_lib.build(
      model, lambda rate: algorithms.fedavg(model, optax.sgd(rate)), [train],
      cohort_size=2, num_members=2, example={'rate': 0.1}, test=train.examples,
      precision='highest')
  assert levels(sweep.program.traced.jaxpr.jaxpr) == {
      (lax.Precision.HIGHEST,) * 2}


def test_programs_of_other_precisions_are_other_programs(on):
  on('gpu')
  model, examples = toys.softmax_model(), toys.softmax_data((2,)).examples
  algorithm = algorithms.fedavg(model, optax.sgd(0.1))
  one, same, other = (
      build(model, examples, precision, algorithm).engine
      for precision in ('highest', 'highest', 'tensorfloat32'))
  assert one is same and one is not other


@pytest.mark.parametrize('setting, platform, want', [
    (None, 'cpu', 'highest'), (None, 'gpu', 'tensorfloat32'),
    (None, 'tpu', 'bfloat16'), ('float32', 'tpu', 'highest'),
    ('high', 'tpu', 'tensorfloat32'), ('bfloat16', 'gpu', 'tensorfloat32'),
    ('BF16_BF16_F32', 'cpu', 'highest')])
def test_unasked_it_is_what_the_process_is_set_to(setting, platform, want):
  with jax.default_matmul_precision(setting):
    assert products.resolved('auto', platform) == want


@pytest.mark.parametrize('precision, platform, valid', [
    ('fp16', 'cpu', 'one of auto, bfloat16, highest, tensorfloat32'),
    ('bfloat16', 'cpu', "'auto', 'highest' or 'tensorfloat32' on a CPU"),
    ('bfloat16', 'gpu', "'auto', 'highest' or 'tensorfloat32' on a GPU")])
def test_what_there_is_not_is_refused_by_name(precision, platform, valid):
  with pytest.raises(ValueError, match='precision must be') as error:
    products.resolved(precision, platform)
  assert valid in str(error.value) and repr(precision) in str(error.value)


def test_a_setting_of_jax_that_is_none_of_ours_is_refused_on_a_gpu():
  with (jax.default_matmul_precision('F32_F32_F32'),
        pytest.raises(ValueError, match='precision must be named')):
    products.resolved('auto', 'gpu')

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from fedjax_sim.clients import batches, gradients
from fedjax_sim.models import from_linen
from tests import toys

SIZE = 23


def batch_of(real, poison=0.0, size=SIZE):
  """The first `real` of `size` rows; those behind hold poison."""
  data = toys.softmax_data([size]).examples
  x = np.where(np.arange(size)[:, None] < real, data['x'], poison)
  return batches.Batch(
      jnp.arange(size), jnp.arange(size) < real, jax.random.key(3),
      jnp.int32(0), {'x': jnp.float32(x), 'y': jnp.asarray(data['y'])})


def softmax():
  model = toys.softmax_model()
  return model, model.init(jax.random.key(0), np.zeros((1, 4)))


class Dropping(nn.Module):

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.Dense(16)(x)
    return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))


def dropping():
  model = from_linen(Dropping())
  return model, model.init(jax.random.key(0), jnp.zeros((2, 4)))


def assert_close(a, b, tolerance=2e-6):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(
      x, y, rtol=tolerance, atol=tolerance), a, b)


@pytest.mark.parametrize('real', [0, 1, 5, SIZE])
@pytest.mark.parametrize('micro', [1, 4, 8, SIZE, 100])
def test_micro_batches_add_up_to_the_gradient_in_one_piece(real, micro):
  model, variables = softmax()
  want = gradients.batch_gradient(model, variables, batch_of(real))
  got = gradients.large_batch_gradient(
      model, variables, batch_of(real, poison=1e6), micro)
  assert_close(got, want)


@pytest.mark.parametrize('micro', [1, 4, 8])
def test_dropout_does_not_depend_on_the_size_of_micro_batches(micro):
  model, variables = dropping()
  batch = batch_of(SIZE)
  run = lambda micro: gradients.large_batch_gradient(
      model, variables, batch, micro)
  assert_close(run(micro), run(SIZE))
  plain = gradients.batch_gradient(model, variables, batch)
  assert abs(run(SIZE)[2]['loss'][0] - plain[2]['loss'][0]) > 1e-3  # It drops.


def test_examples_drop_independently():
  """All rows alike: without keys of their own they would all lose the same."""
  model, variables = dropping()
  batch = batch_of(SIZE)._replace(rows=jnp.zeros(SIZE, jnp.int32))
  keys = gradients.example_keys(batch.key, batch.rows)
  assert len({bytes(k) for k in np.asarray(jax.random.key_data(keys))}) == 1
  run = lambda keys: gradients.summed_gradient(
      model, variables, batch.examples, jnp.ones(SIZE), keys, batch.key)[2]
  own = gradients.example_keys(batch.key, jnp.arange(SIZE))
  one = gradients.summed_gradient(
      model, variables, jax.tree.map(lambda x: x[:1], batch.examples),
      jnp.ones(1), keys[:1], batch.key)[2]
  np.testing.assert_allclose(run(keys), SIZE * one, rtol=1e-5)
  assert abs(run(own) - SIZE * one) > 1e-2


def test_lanes_of_unequal_size():
  model, variables = softmax()
  reals = jnp.array([SIZE, 9, 0])
  batch = batch_of(SIZE)
  run = lambda real: gradients.large_batch_gradient(
      model, variables, batch._replace(mask=jnp.arange(SIZE) < real), 5)
  got = jax.jit(jax.vmap(run))(reals)
  for i, real in enumerate(reals):
    assert_close(jax.tree.map(lambda x, i=i: x[i], got), run(real))


def test_statistics_of_micro_batches_follow_one_another():
  """BatchNorm's running mean after three micro-batches, by its recursion."""
  class Norm(nn.Module):

    @nn.compact
    def __call__(self, x, train=False):
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
      return nn.Dense(3)(x)

  model = from_linen(Norm())
  variables = model.init(jax.random.key(0), jnp.zeros((2, 4)))
  batch = batch_of(21, size=21)
  _, state, _ = gradients.large_batch_gradient(model, variables, batch, 7)
  mean = np.zeros(4)
  for i in range(3):
    mean = 0.9 * mean + 0.1 * np.mean(batch.source['x'][7 * i:7 * i + 7], 0)
  np.testing.assert_allclose(
      state['batch_stats']['BatchNorm_0']['mean'], mean, atol=1e-6)

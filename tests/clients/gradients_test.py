import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from fedjax_sim.clients import batches, gradients
from fedjax_sim.models import from_linen, losses
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
      model, variables, batch.examples, jnp.ones(SIZE), keys)[1][0]
  own = gradients.example_keys(batch.key, jnp.arange(SIZE))
  one = gradients.summed_gradient(
      model, variables, jax.tree.map(lambda x: x[:1], batch.examples),
      jnp.ones(1), keys[:1])[1][0]
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


class Norm(nn.Module):

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    return nn.Dense(3)(x)


class Centered(nn.Module):
  """Centres a batch without a state, and leaves padding out."""

  @nn.compact
  def __call__(self, x, mask):
    real = mask[:, None]
    mean = jnp.where(real, x, 0).sum(0) / jnp.maximum(mask.sum(), 1)
    return nn.Dense(3)(x - mean[None])


def contrasted(outputs, examples, mask):
  """Each row against all others: InfoNCE with the label's column."""
  alike = jnp.where(mask[None], outputs @ outputs.T, -jnp.inf)
  return jax.nn.logsumexp(alike, axis=1) - outputs[:, 0]


MIXING = {
    'statistics': lambda: from_linen(Norm()),
    'centered': lambda: from_linen(Centered()),
    'a loss': lambda: from_linen(nn.Dense(3), loss=contrasted),
}


@pytest.mark.parametrize('name', MIXING)
@pytest.mark.parametrize('real', [9, SIZE])
def test_models_that_mix_rows_see_the_full_batch_in_one_piece(
    name, real, monkeypatch):
  monkeypatch.setattr(gradients, 'MICRO_BATCH_SIZE', 8)
  model = MIXING[name]()
  variables = model.init(jax.random.key(0), jnp.zeros((2, 4)))
  # One batch of these examples alone, without a row of padding.
  alone = jax.tree.map(lambda x: x[:real], batch_of(real)._replace(
      source=None, key=None, step=None))
  want = gradients.batch_gradient(model, variables, alone._replace(
      source=batch_of(real).source, key=batch_of(real).key))
  got = gradients.large_batch_gradient(
      model, variables, batch_of(real, poison=1e6), 8)
  assert_close(got, want, 1e-5)
  with pytest.raises(ValueError, match='micro_batch_size must be 8, its '
                     'default, or at least 23.*got 5.*depends on the others'):
    gradients.large_batch_gradient(model, variables, batch_of(real), 5)


def test_examples_without_a_label_are_in_no_mean():
  model = from_linen(nn.Dense(3), loss=losses.cross_entropy(ignore_label=-100))
  variables = model.init(jax.random.key(0), jnp.zeros((2, 4)))
  batch = batch_of(SIZE, size=SIZE)
  labelled = np.arange(SIZE) % 3 > 0
  some = batch._replace(source=batch.source | {
      'y': jnp.where(labelled, batch.source['y'], -100)})
  few = jnp.asarray(np.flatnonzero(labelled))
  want = gradients.batch_gradient(
      model, variables, batch._replace(rows=few, mask=jnp.ones(len(few), bool)))
  assert want[2]['loss'][1] == len(few) < SIZE
  for got in (gradients.batch_gradient(model, variables, some),
              gradients.large_batch_gradient(model, variables, some, 5)):
    assert_close(got, want)
  nothing = some._replace(mask=jnp.asarray(~labelled))
  gradient, _, metrics = gradients.batch_gradient(model, variables, nothing)
  assert not np.any(gradient['kernel']) and metrics['loss'] == (0, 0)

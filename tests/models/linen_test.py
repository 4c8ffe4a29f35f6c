"""What is particular to flax linen modules."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp

from fedjax_sim import models

KEY = jax.random.key


class Sower(nn.Module):
  collection: str

  @nn.compact
  def __call__(self, x):
    self.sow(self.collection, 'x', x.sum())
    return nn.Dense(2)(x)


class Counter(nn.Module):

  @nn.compact
  def __call__(self, x):
    self.variable('steps', 'n', lambda: jnp.zeros((), jnp.int32))
    return x


class Norm(nn.Module):
  own_mask: bool = False
  merged: bool = False
  by_name: bool = False

  @nn.compact
  def __call__(self, x, train):
    norm = nn.BatchNorm(use_running_average=not train, momentum=0.0)
    if self.merged:
      return norm(x.reshape(-1, x.shape[-1])).reshape(x.shape)
    mask = x[..., :1] < 100 if self.own_mask else None
    return norm(x=x, mask=mask) if self.by_name else norm(x, mask=mask)


class Scaled(nn.Module):
  """Multiplies by a parameter, and by 2 in training."""

  @nn.compact
  def __call__(self, x, *, training, use_running_average, mask):
    scale = self.param('scale', nn.initializers.ones, ())
    assert training is not use_running_average
    return jnp.where(mask[:, None], x * scale * (2 if training else 1), 0)


def test_intermediates_are_dropped():
  model = models.from_linen(Sower('intermediates'))
  variables = model.init(KEY(0), jnp.ones((2, 3)))
  assert variables.model_state == {}
  assert model.run(variables, jnp.ones((2, 3)), train=True)[1] == {}


def test_a_state_that_grows_is_an_error():
  with pytest.raises(ValueError, match='changed the structure of its state'):
    models.from_linen(Sower('losses')).init(KEY(0), jnp.ones((2, 3)))


def test_a_state_of_integers_is_an_error():
  with pytest.raises(ValueError, match=r"got int32 in .*\['steps'\]\['n'\]"):
    models.from_linen(Counter()).init(KEY(0), jnp.ones((2, 3)))


def test_options_are_handed_by_their_names():
  model = models.from_linen(Scaled())
  x = jnp.ones((2, 3))
  variables = model.init(KEY(0), x)
  mask = jnp.array([True, False])
  for train in (True, False):
    y, _ = model.run(variables, x, train=train, mask=mask)
    np.testing.assert_array_equal(y, [[1 + train] * 3, [0] * 3])


@pytest.mark.parametrize('by_name', [True, False])
def test_a_mask_of_the_user_s_own_and_that_of_the_rows_both_hold(by_name):
  model = models.from_linen(Norm(own_mask=True, by_name=by_name))
  # [rows, places, channels]; places of 1e5 are left out by the module itself,
  # the last row by us.
  x = jnp.array([[1, 1e5], [3, 8], [50, 50]])[..., None]
  variables = model.init(KEY(0), x)
  _, state = model.run(
      variables, x, train=True, mask=jnp.array([True, True, False]))
  norm = state['batch_stats']['BatchNorm_0']
  np.testing.assert_allclose(norm['mean'], [4.0], rtol=1e-6)
  np.testing.assert_allclose(norm['var'], [(9 + 1 + 16) / 3], rtol=1e-5)


def test_batchnorm_over_merged_rows_is_an_error():
  with pytest.raises(ValueError, match=r'\(6, 4\) in a batch of 2'):
    models.from_linen(Norm(merged=True)).init(KEY(0), jnp.ones((2, 3, 4)))


def test_partitioned_parameters_are_plain_arrays():
  dense = nn.Dense(2, kernel_init=nn.with_partitioning(
      nn.initializers.ones, (None, 'model')))
  params = models.from_linen(dense).init(KEY(0), jnp.ones((2, 3))).params
  np.testing.assert_array_equal(params['kernel'], np.ones((3, 2)))


@pytest.mark.parametrize('module', [nn.Dense, 'dense', None])
def test_what_is_no_module_is_an_error(module):
  with pytest.raises(ValueError, match='flax.linen.Module'):
    models.from_linen(module)


def test_a_module_that_needs_more_arguments_is_an_error():
  class Two(nn.Module):

    @nn.compact
    def __call__(self, x, other):
      return x + other

  with pytest.raises(ValueError, match="Two.__call__ needs .*'other'"):
    models.from_linen(Two())

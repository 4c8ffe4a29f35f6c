"""`Model.to_linen` and `to_nnx` give modules that compute what the model does.
"""

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax import numpy as jnp

import fedjax_sim as fs
from fedjax_sim.models.nnx import variables_of
from tests import toys

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


class Linen(nn.Module):

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.BatchNorm(use_running_average=not train)(nn.Dense(3)(x))
    return nn.Dropout(0.5, deterministic=not train)(x)


class Nnx(nnx.Module):

  def __init__(self, rngs):
    self.layers = nnx.List([nnx.Linear(4, 3, rngs=rngs)])
    self.norm = nnx.BatchNorm(3, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, x):
    return self.dropout(self.norm(self.layers[0](x)))


def trained(model):
  """Variables that differ from those that the module begins with."""
  variables = model.init(jax.random.key(7), X)
  return variables._replace(model_state=jax.tree.map(
      lambda a: a + 0.5, variables.model_state))


def outputs(model, variables):
  return model.run(variables, X, key=None, train=False,
                   mask=np.ones(len(X), bool))[0]


def test_linen():
  model = fs.models.from_linen(Linen())
  variables = trained(model)
  module, of_flax = model.to_linen(variables)
  np.testing.assert_array_equal(
      module.apply(of_flax, X), outputs(model, variables))
  with pytest.raises(ValueError, match='to_nnx needs a model that models.from'):
    model.to_nnx(variables)


def test_nnx():
  model = fs.models.from_nnx(Nnx)
  variables = trained(model)
  module = model.to_nnx(variables)
  jax.tree.map(np.testing.assert_array_equal, variables_of(module), variables)
  np.testing.assert_array_equal(module(X), outputs(model, variables))
  assert type(module.norm) is nnx.BatchNorm  # Not ours, which needs a mask.
  module.train()
  assert jnp.any(module(X) == 0)  # Dropout draws.
  with pytest.raises(ValueError, match='to_linen needs a model that models.fr'):
    model.to_linen(variables)


def test_plain_functions_have_no_module():
  with pytest.raises(ValueError, match='made otherwise'):
    toys.softmax_model().to_nnx(None)

"""What is wrong with `hidden`, or a restriction of one's own, is told early.

When a simulation is built, from shapes, without a round.
"""

import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import numpy as jnp

from fedjax_sim import algorithms, data, models, restrictions
from fedjax_sim.clients.restrictions import Restriction, Trained
from fedjax_sim.core.model import Hidden
from fedjax_sim.data import sampling
from fedjax_sim.models import hidden_layers
from fedjax_sim.simulation import build as build_lib

EXAMPLES = {'x': np.zeros((3, 4), np.float32), 'y': np.zeros(3, np.int32)}
DATA = data.from_clients([EXAMPLES, EXAMPLES])
WIDTHS = {'Dense_0': 64}
HALF = restrictions.federated_dropout(0.5)


class MLP(nn.Module):
  hidden: int
  nested: bool = False

  @nn.compact
  def __call__(self, x):
    if self.nested:  # The outer layer is made first.
      return nn.Dense(10)(nn.relu(nn.Dense(self.hidden)(x)))
    x = nn.relu(nn.Dense(self.hidden)(x))
    return nn.Dense(10)(x)


def make(widths, nested=False):
  return models.from_linen(MLP(widths['Dense_0'], nested))


def build(model, restrict=HALF):
  algorithm = algorithms.fedavg(
      model, optax.sgd(0.1), batch_size=2, restrict=restrict)
  return build_lib.build(
      model, algorithm, DATA, sampling.uniform(2, 2, seed=0), devices=1,
      lanes=1)


def test_what_fits_is_built():
  build(make(WIDTHS)._replace(hidden=hidden_layers(WIDTHS, 'Dense_1', make)))


@pytest.mark.parametrize('hidden, message', [
    (hidden_layers(WIDTHS, 'Dense_7', make),
     'field hidden .* params/Dense_7/kernel must be an array of the model, '
     'which has params/Dense_0/bias'),
    (hidden_layers({'Dense_0': 32}, 'Dense_1', make),
     r'field hidden .*/bias must have shape \(32,\), .* got \(16,\)'),
    (hidden_layers(WIDTHS, 'Dense_1', lambda widths: make(WIDTHS)),
     r'field hidden .*/bias must have shape \(32,\), .* got \(64,\)'),
    (hidden_layers(WIDTHS, 'Dense_1', lambda widths: make({})),
     "field hidden .* got KeyError: 'Dense_0'"),
    (hidden_layers(WIDTHS, 'Dense_1', lambda widths: None),
     'hidden.narrow makes .* must be a Model, .* got None'),
    (WIDTHS, 'field hidden must be a Hidden, such as models.hidden_layers'),
    (Hidden(WIDTHS, {'Dense_0': 3}, make), 'axes.* must be a Mapping'),
    (Hidden(WIDTHS, {'Dense_1': {}}, make), 'must be one of Dense_0'),
    (Hidden(WIDTHS, {'Dense_0': {'params/Dense_0/bias': -2}}, make),
     r'params/Dense_0/bias must have along axis -2'),
])
def test_a_hidden_that_does_not_fit_is_blamed(hidden, message):
  with pytest.raises(ValueError, match=message):
    build(make(WIDTHS)._replace(hidden=hidden))


def test_the_names_of_nested_layers_are_explained():
  nested = lambda widths: make(widths, nested=True)
  hidden = hidden_layers(WIDTHS, 'Dense_1', nested)
  with pytest.raises(ValueError, match='64 units of Dense_0.*got shape .10,.*'
                     'in the order in which they are made'):
    build(nested(WIDTHS)._replace(hidden=hidden))


def test_a_fraction_that_leaves_nothing_is_refused():
  """Half a unit rounds to none; a little more is one."""
  whole = make(WIDTHS)._replace(hidden=hidden_layers(WIDTHS, 'Dense_1', make))
  with pytest.raises(ValueError, match='more than 0.5 / 64, .* of Dense_0 '):
    build(whole, restrictions.federated_dropout(0.5 / 64))
  with pytest.raises(ValueError, match='0.5 / 256, .*params/Dense_0/kernel'):
    build(whole, restrictions.random_mask(0.5 / 256))
  kept = restrictions.federated_dropout(0.51 / 64).submodel(whole).kept
  assert kept == {'Dense_0': 1}


@pytest.mark.parametrize('changes, message', [
    ({'pull': lambda g: jnp.sum(g)},
     r'pull\(gradient\) of params/Dense_0/bias must be float32\[2\], got '
     r'float32\[\]'),
    ({'expand': lambda z: z}, r'expand\(start\) .* float32\[64\], got '),
    ({'expand': lambda z: jnp.zeros(64, jnp.bfloat16)}, 'got bfloat16'),
    ({'sent': np.ones(2, bool)}, r'sent .* must be bool\[64\], got bool'),
])
def test_maps_between_other_shapes_are_refused(changes, message):
  def trained(path, x, key):
    if not path.endswith('Dense_0/bias'):
      return None
    return Trained(**dict(
        start=jnp.zeros(2), expand=lambda z: x + jnp.sum(z),
        pull=lambda g: jnp.full(2, jnp.sum(g))) | changes)

  with pytest.raises(ValueError, match=message):
    build(make(WIDTHS), Restriction('own', trained))


def test_what_is_no_trained_is_refused():
  with pytest.raises(ValueError, match='must be a Trained.*got 3'):
    build(make(WIDTHS), Restriction('own', lambda path, x, key: 3))


def test_text_is_for_configs():
  with pytest.raises(ValueError, match='restrict must be a Restriction.*call '
                     'the function'):
    algorithms.fedavg(make(WIDTHS), optax.sgd(0.1), restrict='low_rank(4)')

"""The Python of docs/losses.md does what the page says."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax import numpy as jnp

import fedjax_sim as fs
from fedjax_sim.models import output_check

PAGE = Path(__file__).parents[2] / 'docs' / 'losses.md'


class MLP(nn.Module):
  outputs: int

  @nn.compact
  def __call__(self, x):
    return nn.Dense(self.outputs)(x)


def test_the_page_s_losses_and_metrics_work():
  by_name, config, own, ignoring = re.findall(
      r'```python\n(.*?)```', PAGE.read_text(), re.S)
  space = {'fs': fs, 'jnp': jnp, 'MLP': MLP, 'config': type('Config', (), {})}
  for code in (by_name, config, own):
    exec(code, space)
  assert space['model'].loss.options == {'delta': 2.0}
  examples = {'x': np.zeros((5, 3), np.float32), 'y': np.zeros(5, np.float32)}
  model = fs.models.from_linen(
      MLP(1), loss=space['loss'], metrics=space['within_1'])
  variables = jax.eval_shape(model.init, jax.random.key(0), examples['x'])
  output_check.check_functions(model, variables, examples)
  assert model.direction('test/within_1') is True
  exec(ignoring, space)
  counted = space['loss'].counts({'y': np.array([-1, 2])})
  np.testing.assert_array_equal(counted, [False, True])


@pytest.mark.parametrize('name', fs.models.LOSSES)
def test_a_loss_may_be_named(name):
  want = fs.models.LOSSES[name]
  assert fs.models.from_linen(MLP(1), loss=name).loss is want
  assert fs.models.from_nnx(
      lambda rngs: nnx.Linear(3, 1, rngs=rngs), loss=name).loss is want
  assert fs.models.logistic_regression(1, loss=name).loss is want


def test_a_name_that_no_loss_has_is_an_error():
  with pytest.raises(ValueError, match="loss must be one of .*'mse'"):
    fs.models.from_linen(MLP(1), loss='mse2')


def test_the_page_lists_every_loss_and_metric():
  page = PAGE.read_text()
  for name in (*fs.models.LOSSES, *fs.models.METRICS):
    assert f'`{name}' in page

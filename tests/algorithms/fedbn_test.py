import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from jax import numpy as jnp

from fedjax_sim import algorithms, evaluation, models
from fedjax_sim.algorithms.fedbn import batch_norm
from fedjax_sim.core.types import Model, Variables
from fedjax_sim.data.federated import from_clients
from tests import toys

SGD = optax.sgd(0.1)
CENTRES, SIZES = [(0, 1), (4, 2), (-3, 5)], (3, 4, 2)


def centring_model():
  """Centres its input by a running mean that is model state."""
  def apply(params, state, x, *, key, train, mask):
    del key
    count = jnp.maximum(mask.sum(), 1)
    batch_mean = jnp.where(mask[:, None], x, 0).sum(0) / count
    mean = batch_mean if train else state['mean']
    state = {'mean': 0.5 * state['mean'] + 0.5 * batch_mean} if train else state
    return params['w'][None] + 0 * x + (x - mean[None]), state
  return Model(
      lambda key, x: Variables({'w': jnp.ones(2)}, {'mean': jnp.zeros(2)}),
      apply, lambda out, e: 0.5 * jnp.sum(out ** 2, -1), lambda out, e: {})


def centred_points():
  return toys.points_data([np.tile(c, (n, 1)) for c, n in
                           zip(CENTRES, SIZES, strict=True)])


def test_statistics_stay_at_home():
  model, data = centring_model(), centred_points()
  algorithm = algorithms.fedbn(model, SGD, batch_size=None)
  state = toys.run_cohorts(model, algorithm, data, [range(3)] * 30)
  np.testing.assert_allclose(
      state.clients.model_state['mean'], CENTRES, atol=1e-4)
  np.testing.assert_array_equal(
      state.server.variables.model_state['mean'], [0, 0])
  own = toys.personal_models(algorithm, state, data)
  np.testing.assert_allclose(
      [v.model_state['mean'] for v in own], CENTRES, atol=1e-4)
  averaged = toys.run_cohorts(
      model, algorithms.fedavg(model, SGD, batch_size=None), data,
      [range(3)] * 30)
  np.testing.assert_allclose(
      averaged.server.variables.model_state['mean'],
      np.average(CENTRES, axis=0, weights=SIZES), atol=1e-4)


class Net(nn.Module):
  """A normalized layer, by a name that doesn't tell, and a plain one."""

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.Dense(5, name='first')(x)
    x = nn.BatchNorm(use_running_average=not train, name='level',
                     momentum=0.5)(x)
    return nn.Dense(3, name='last')(nn.relu(x))


class Nested(nnx.Module):
  """The same in nnx, one level down."""

  def __init__(self, rngs):
    self.first = nnx.Linear(4, 5, rngs=rngs)
    self.block = nnx.Dict(level=nnx.BatchNorm(5, rngs=rngs))
    self.last = nnx.Linear(5, 3, rngs=rngs)

  def __call__(self, x):
    return self.last(nnx.relu(self.block['level'](self.first(x))))


@pytest.mark.parametrize('model', [
    models.from_linen(Net()), models.from_nnx(Nested)])
def test_scale_and_bias_of_batch_norm_are_personal(model):
  variables = model.init(jax.random.key(0), jnp.zeros((1, 4)))
  mask = batch_norm(variables)
  for path, own in jax.tree.leaves_with_path(mask.params):
    assert own == ('level' in jax.tree_util.keystr(path))
  assert all(jax.tree.leaves(mask.model_state))
  assert sum(jax.tree.leaves(mask.params)) == 2


@pytest.mark.long
@pytest.mark.slow
def test_clients_with_features_of_their_own_do_well():
  """Clients see their inputs scaled and shifted; their labels agree."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(4, 60, 4))
  y = (x @ rng.normal(size=(4, 3))).argmax(-1)
  seen = x * np.array([0.3, 1, 3, 10])[:, None, None] + np.array(
      [0.3, 0, -3, 10])[:, None, None]
  data = from_clients([
      {'x': a.astype(np.float32), 'y': b.astype(np.int32)}
      for a, b in zip(seen, y, strict=True)])
  model = models.from_linen(Net())
  accuracy = {}
  for name in ('fedavg', 'fedbn'):
    algorithm = getattr(algorithms, name)(
        model, optax.sgd(0.2), batch_size=20, epochs=2)
    state = toys.run_cohorts(model, algorithm, data, [range(4)] * 25, lanes=4)
    accuracy[name] = evaluation.evaluate_clients(
        model, algorithm, state, data, data,
        key=jax.random.key(0)).values['accuracy'].min()
  assert accuracy['fedbn'] > 0.85 > accuracy['fedavg']


def test_a_model_without_statistics_is_refused():
  model = toys.softmax_model()
  with pytest.raises(ValueError, match='model_state is empty'):
    toys.run_cohorts(model, algorithms.fedbn(model, SGD),
                     toys.softmax_data([3]), [[0]])

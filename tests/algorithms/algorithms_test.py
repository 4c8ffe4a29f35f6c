import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import numpy as jnp

from fedjax_sim import algorithms, models
from fedjax_sim.core import random
from fedjax_sim.data.federated import federate, single
from fedjax_sim.experiment import simulate as simulate_lib
from tests import numpy_fedavg, toys

MODEL = toys.softmax_model()
SIZES = [1, 17, 10, 20, 5]


def run(algorithm, data, rounds=3, **kwargs):
  kwargs = {'client_fraction': 1.0, 'lanes': 2, **kwargs}
  return simulate_lib.simulate(MODEL, algorithm, data, rounds=rounds, **kwargs)


def assert_same(a, b, tolerance=1e-6):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(
      x, y, rtol=tolerance, atol=tolerance),
      a.variables.params, b.variables.params)


@pytest.mark.parametrize('optimizer, weighting', [
    (optax.sgd(0.3), 'uniform'), (optax.adamw(0.1), 'examples')])
def test_fedsgd_is_fedavg_with_one_full_step(optimizer, weighting):
  data = toys.softmax_data(SIZES)
  kwargs = {'weighting': weighting, 'client_schedule': lambda r: 0.9 ** r}
  assert_same(run(algorithms.fedsgd(MODEL, optimizer, **kwargs), data),
              run(algorithms.fedavg(MODEL, optimizer, batch_size=None,
                                    **kwargs), data))


@pytest.mark.parametrize('weighting, micro, lanes', [
    ('examples', 4, 1), ('uniform', 4, 3), ('examples', 100, 3),
    pytest.param('uniform', 100, 1, marks=pytest.mark.slow)])
def test_pooled_fedsgd_is_fedavg_with_one_full_step(weighting, micro, lanes):
  data = toys.softmax_data(SIZES)
  kwargs = {'weighting': weighting, 'client_schedule': lambda r: 0.9 ** r}
  pooled = algorithms.fedsgd(MODEL, 0.3, micro_batch_size=micro, **kwargs)
  assert pooled.pooled is not None
  want = algorithms.fedavg(MODEL, optax.sgd(0.3), batch_size=None, **kwargs)
  got = run(pooled, data, client_fraction=0.6, lanes=lanes)
  want = run(want, data, client_fraction=0.6)
  assert_same(got, want)
  for a, b in zip(got.records, want.records, strict=True):
    np.testing.assert_allclose(a['train/loss'], b['train/loss'], rtol=1e-5)
    assert a['clients'] == b['clients'] == 3


def test_pooled_fedsgd_drops_what_the_clients_would_drop():
  class Dropping(nn.Module):

    @nn.compact
    def __call__(self, x, train=False):
      return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))

  model = models.from_linen(Dropping())
  data = toys.softmax_data(SIZES)
  got, want = (simulate_lib.simulate(
      model, algorithm, data, rounds=3, client_fraction=1.0) for algorithm in (
          algorithms.fedsgd(model, 0.3),
          algorithms.fedavg(model, optax.sgd(0.3), batch_size=None)))
  assert_same(got, want)


def test_fedsgd_does_not_pool_the_statistics_of_batch_norm():
  class Norm(nn.Module):

    @nn.compact
    def __call__(self, x, train=False):
      return nn.Dense(3)(nn.BatchNorm(use_running_average=not train)(x))

  model = models.from_linen(Norm())
  data = toys.softmax_data(SIZES)
  got, want = (simulate_lib.simulate(
      model, algorithm, data, rounds=2, client_fraction=1.0) for algorithm in (
          algorithms.fedsgd(model, 0.3),
          algorithms.fedavg(model, optax.sgd(0.3), batch_size=None)))
  assert_same(got, want)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
               got.variables.model_state, want.variables.model_state)


@pytest.mark.parametrize('sizes, same', [([8] * 4, True), (SIZES, False)])
def test_uniform_weights_matter_only_where_sizes_differ(sizes, same):
  data = toys.softmax_data(sizes)
  weighted, uniform = (
      run(algorithms.fedsgd(MODEL, 0.3, weighting=weighting), data)
      .variables.params['w'] for weighting in ('examples', 'uniform'))
  difference = np.abs(weighted - uniform).max()
  assert (difference < 1e-6) if same else (difference > 1e-2)


def test_fedsgd_with_everyone_is_gradient_descent():
  data = toys.softmax_data(SIZES)
  result = run(algorithms.fedsgd(MODEL, optax.sgd(0.3)), data, rounds=4)
  start = run(algorithms.fedsgd(MODEL, optax.sgd(1e-12)), data, rounds=1)
  w, b = (np.asarray(start.variables.params[k], np.float64) for k in 'wb')
  x, y = data.examples['x'], data.examples['y']
  for _ in range(4):
    dw, db = numpy_fedavg.softmax_gradients(w, b, x, y)
    w, b = w - 0.3 * dw, b - 0.3 * db
  np.testing.assert_allclose(result.variables.params['w'], w, atol=1e-5)


def test_schedule_scales_each_round():
  """With one full step a round, rate 0.4 * 0.5^t by hand."""
  data = toys.points_data([np.array([[2.0, 0], [4, 0]])])
  model = toys.quadratic_model()
  result = simulate_lib.simulate(
      model, algorithms.fedavg(model, optax.sgd(0.4), batch_size=None,
                               client_schedule=lambda r: 0.5 ** r),
      data, rounds=3, client_fraction=1.0)
  w = 0.0
  for rate in (0.4, 0.2, 0.1):
    w -= rate * (w - 3.0)
  np.testing.assert_allclose(result.variables.params['w'], [w, 0], rtol=1e-5)


def test_server_optimizer_takes_the_pseudo_gradient():
  """FedAdam's first step is server_lr * sign(-mean update), by its formula."""
  data = toys.softmax_data(SIZES)
  client = optax.sgd(0.1)
  start = run(algorithms.fedavg(MODEL, client, optax.sgd(0.0)), data, rounds=1)
  mean = run(algorithms.fedavg(MODEL, client), data, rounds=1)
  adam = run(algorithms.fedavg(MODEL, client, optax.adam(0.01)), data, rounds=1)
  delta = mean.variables.params['w'] - start.variables.params['w']
  np.testing.assert_allclose(
      adam.variables.params['w'] - start.variables.params['w'],
      0.01 * np.sign(delta), rtol=1e-3)


def test_clipping_and_weight_decay_of_the_client():
  """One step on one point: w - lr * clip(w - x) with decay, by hand."""
  model = toys.quadratic_model()
  model = model._replace(init=lambda key, x: model_start)
  model_start = toys.quadratic_model().init(None, None)._replace(
      params={'w': jnp.array([1.0, 1.0])})
  data = toys.points_data([np.array([[4.0, 5.0]])])  # gradient (-3, -4)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0),
                          optax.add_decayed_weights(0.1), optax.sgd(0.5))
  result = simulate_lib.simulate(
      model, algorithms.fedavg(model, optimizer), data, rounds=1,
      client_fraction=1.0)
  want = np.array([1, 1]) - 0.5 * (np.array([-0.6, -0.8]) + 0.1)
  np.testing.assert_allclose(result.variables.params['w'], want, rtol=1e-6)


def test_one_shot_averaging_is_the_mean_of_local_models():
  data = toys.softmax_data([12, 30])
  algorithm = algorithms.fedavg(MODEL, optax.sgd(0.1), epochs=20, batch_size=4)
  both = run(algorithm, data, rounds=1).variables.params['w']
  # The other client weighs nothing when only k is in the cohort.
  alone = [toys.run_cohorts(MODEL, algorithm, data, [[k]])
           .server.variables.params['w'] for k in range(2)]
  want = (12 * alone[0] + 30 * alone[1]) / 42
  np.testing.assert_allclose(both, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('steps', [2, 7, None])
def test_centralized_sgd_is_one_run_whatever_the_rounds(steps):
  """Momentum and epoch order are carried on: rounds only cut the run."""
  data = single(toys.softmax_data([23]).examples)
  optimizer = optax.sgd(0.2, momentum=0.9)
  per_round = steps or 5
  rounds = 35 // per_round
  result = run(algorithms.centralized_sgd(
      MODEL, optimizer, batch_size=5, steps_per_round=steps), data,
      rounds=rounds)
  want = _plain_sgd(data, optimizer, rounds * per_round)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
               result.variables.params, want)


@pytest.mark.parametrize('steps', [2, None])
def test_centralized_sgd_s_schedule_counts_rounds(steps):
  data = single(toys.softmax_data([23]).examples)
  per_round = steps or 5
  result = run(algorithms.centralized_sgd(
      MODEL, optax.sgd(0.2), batch_size=5, steps_per_round=steps,
      client_schedule=lambda r: 0.5 ** r), data, rounds=4)
  stepwise = optax.sgd(lambda t: 0.2 * 0.5 ** (t // per_round))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
               result.variables.params, _plain_sgd(data, stepwise,
                                                   4 * per_round))


def _plain_sgd(data, optimizer, steps, batch_size=5):
  key = jax.random.key(0)
  x, y = data.examples['x'], data.examples['y']
  variables = MODEL.init(random.named(key, 'model'), x[:1])
  order_key = random.named(random.named(key, 'algorithm'), 'order')
  params, opt_state = variables.params, optimizer.init(variables.params)
  in_epoch = -(-len(y) // batch_size)
  for t in range(steps):
    order = np.asarray(random.random_order(
        jax.random.fold_in(order_key, t // in_epoch), len(y), len(y)))
    rows = order[t % in_epoch * batch_size:][:batch_size]
    dw, db = numpy_fedavg.softmax_gradients(
        np.asarray(params['w']), np.asarray(params['b']), x[rows], y[rows])
    updates, opt_state = optimizer.update({'w': dw, 'b': db}, opt_state, params)
    params = optax.apply_updates(params, updates)
  return params


def test_centralized_sgd_wants_one_client():
  with pytest.raises(ValueError, match='num_clients = 1'):
    run(algorithms.centralized_sgd(MODEL, optax.sgd(0.1)),
        toys.softmax_data([3, 3]))


@pytest.mark.parametrize('bad', [
    {'epochs': 0}, {'batch_size': 0}, {'weighting': 'size'}])
def test_bad_arguments(bad):
  with pytest.raises(ValueError, match=next(iter(bad))):
    algorithms.fedavg(MODEL, optax.sgd(0.1), **bad)


def test_model_state_is_averaged():
  """A state that holds a client's size: the mean is n_k-weighted."""
  base = toys.softmax_model()
  def apply(params, state, x, *, key, train, mask):
    state = {'seen': mask.sum().astype(jnp.float32)} if train else state
    return base.apply(params, state, x, key=key, train=train, mask=mask)
  model = base._replace(
      init=lambda key, x: base.init(key, x)._replace(
          model_state={'seen': jnp.float32(0)}), apply=apply)
  data = federate(toys.softmax_data([2, 6]).examples, toys.partition_of([2, 6]))
  algorithm = algorithms.fedavg(model, optax.sgd(0.1), batch_size=None)
  result = simulate_lib.simulate(model, algorithm, data, rounds=1,
                                 client_fraction=1.0)
  assert result.variables.model_state['seen'] == (2 * 2 + 6 * 6) / 8


@pytest.mark.parametrize('change, message', [
    (dict(train={'x': 1}), 'train must be a federation.*got a dict'),
    (dict(model=nn.Dense(3)), 'model must be a Model.*got a Dense'),
])
def test_simulate_names_what_is_of_the_wrong_kind(change, message):
  arguments = {'model': MODEL, 'train': toys.softmax_data(SIZES), **change}
  with pytest.raises(ValueError, match=message):
    simulate_lib.simulate(
        algorithm=algorithms.fedavg(MODEL, optax.sgd(0.1)), rounds=1,
        client_fraction=1.0, **arguments)


def test_optimizers_of_the_wrong_kind():
  with pytest.raises(ValueError, match='client_optimizer must be an optax'):
    algorithms.fedavg(MODEL, 0.1)
  with pytest.raises(ValueError, match='server_optimizer must be an optax'):
    algorithms.fedavg(MODEL, optax.sgd(0.1), 1.0)

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import algorithms, evaluation, simulate
from fedjax_sim.algorithms.ifca import redrawn
from fedjax_sim.core.types import Variables
from tests import toys

MODEL = toys.quadratic_model()
SGD = optax.sgd(0.1)
TRUTH = np.array([(0, 0), (5, 5), (0, 0), (5, 5), (5, 5)], float)
SIZES = [4, 6, 3, 5, 2]


def planted(noise, seed=0):
  rng = np.random.default_rng(seed)
  return toys.points_data([c + noise * rng.normal(size=(n, 2))
                           for c, n in zip(TRUTH, SIZES, strict=True)])


def scattered(variables, key):
  return variables._replace(
      params={'w': 2 + jax.random.normal(key, (2,))})


def models_of(state):
  return jax.device_get(state.server.variables.params['w'])


def test_planted_clusters_are_recovered():
  data = planted(noise=0.1)
  algorithm = algorithms.ifca(
      MODEL, SGD, clusters=2, initial=scattered, batch_size=2)
  state = toys.run_cohorts(MODEL, algorithm, data, [range(5)] * 40)
  means = np.stack([data.client(k)['x'].sum(0) for k in range(5)])
  want = [means[who].sum(0) / np.sum(np.array(SIZES)[who])
          for who in ([0, 2], [1, 3, 4])]
  found = models_of(state)
  found = found[np.argsort(found[:, 0])]
  np.testing.assert_allclose(found, want, atol=0.05)
  # Each client is evaluated with the model of its own cluster.
  own = [v.params['w'] for v in toys.personal_models(algorithm, state, data)]
  np.testing.assert_allclose(own, TRUTH, atol=0.2)


def test_a_round_by_hand():
  """Means over those that chose a model; one that nobody chose stays."""
  data = planted(noise=0.0)
  starts = jnp.array([[1.0, 0], [4, 4], [90, 90]])
  algorithm = algorithms.ifca(
      MODEL, SGD, clusters=3, batch_size=None,
      initial=lambda variables, key: variables)
  plain = algorithm.init
  algorithm = algorithm._replace(init=lambda *args: plain(*args)._replace(
      variables=Variables({'w': starts}, {})))
  state = toys.run_cohorts(MODEL, algorithm, data, [[0, 1, 4]])
  want = [0.9 * starts[0], 0.9 * starts[1] + 0.1 * 5, starts[2]]
  np.testing.assert_allclose(models_of(state), np.stack(want), rtol=1e-6)
  np.testing.assert_array_equal(state.server.extra, [4, 6 + 2, 0])


def test_a_model_that_nobody_chooses_stays():
  """As if its rounds were those in which somebody did: it is FedAvg alone."""
  optimizer = optax.adam(0.1)
  data = toys.points_data([np.full((2, 1), 1.0), np.full((2, 1), 10.0)])
  model, starts = toys.quadratic_model(1), np.float32([[0.0], [8.0]])
  ifca = algorithms.ifca(
      model, SGD, optimizer, clusters=2, batch_size=None,
      initial=lambda variables, key: variables)
  fedavg = algorithms.fedavg(model, SGD, optimizer, batch_size=None)
  run = lambda algorithm, start, cohorts: toys.run_cohorts(
      model, algorithm._replace(init=lambda *args: algorithm.init(
          *args)._replace(variables=Variables({'w': jnp.asarray(start)}, {}))),
      data, cohorts, lanes=1).server.variables.params['w']
  found = run(ifca, starts, [[0], [0], [1], [1], [0]])
  want = [run(fedavg, starts[0], [[0]] * 3), run(fedavg, starts[1], [[1]] * 2)]
  np.testing.assert_allclose(found, np.stack(want), rtol=1e-5)


def test_one_cluster_is_fedavg():
  model, data = toys.softmax_model(), toys.softmax_data([4, 9, 7])
  settings = {'batch_size': 3, 'epochs': 2}
  got = algorithms.ifca(model, SGD, optax.adam(0.1), clusters=1,
                        initial=lambda variables, key: variables, **settings)
  want = algorithms.fedavg(model, SGD, optax.adam(0.1), **settings)
  got, want = (toys.run_cohorts(model, x, data, [[0, 1, 2], [2, 0]])
               .server.variables.params['w'] for x in (got, want))
  np.testing.assert_allclose(got[0], want, rtol=1e-5)


def test_the_test_set_is_given_to_the_largest_cluster():
  data = planted(noise=0.0)
  algorithm = algorithms.ifca(MODEL, SGD, clusters=2, initial=scattered)
  test = {'x': np.full((3, 2), 5, np.float32), 'y': np.zeros(3, np.int32)}
  result = simulate(MODEL, algorithm, data, rounds=40, client_fraction=1.0,
                    lanes=2, test=test)
  assert result.records[-1]['test/loss'] < 1e-3
  assert result.state.server.extra.max() == 40 * (6 + 5 + 2)
  clients = evaluation.evaluate_clients(
      MODEL, algorithm, result.state, data, data, key=jax.random.key(0))
  assert clients.values['loss'].max() < 1e-2


def test_redrawn_keeps_mean_and_deviation_and_what_is_constant():
  rng = np.random.default_rng(0)
  params = {'w': jnp.asarray(rng.normal(3, 0.5, (200, 100)), jnp.float32),
            'b': jnp.full(7, 0.25)}
  got = redrawn(Variables(params, {'s': 1.0}), jax.random.key(1))
  w = np.asarray(got.params['w'])
  assert abs(w.mean() - 3) < 0.02 and abs(w.std() - 0.5) < 0.01
  assert abs(np.corrcoef(w.ravel(), params['w'].ravel())[0, 1]) < 0.05
  np.testing.assert_array_equal(got.params['b'], params['b'])
  assert got.model_state == {'s': 1.0}


def test_bad_arguments():
  with pytest.raises(ValueError, match='clusters'):
    algorithms.ifca(MODEL, SGD, clusters=0)

"""SCAFFOLD on quadratics of different curvatures and optima."""

import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import algorithms
from fedjax_sim.experiment import simulate as simulate_lib
from tests import toys

MODEL = toys.curved_model()


def run(algorithm, rounds, data=None):
  result = simulate_lib.simulate(
      MODEL, algorithm, data or toys.curved_data(), rounds=rounds,
      client_fraction=1.0, lanes=1)
  return np.asarray(result.variables.params['w'])


def numpy_scaffold(cohorts, *, lr, steps, option, server_lr=1.0, decay=1.0,
                   weights=(1, 1, 1)):
  """(x, c, c_k) after rounds with these cohorts; c is the mean of all c_k."""
  weights = np.asarray(weights, np.float64)
  x, own = np.zeros(2), np.zeros((3, 2))
  for t, cohort in enumerate(cohorts):
    rate = lr * decay ** t
    mean = np.average(own, axis=0, weights=weights)
    moves, new = [], own.copy()
    for k in cohort:
      gradient = lambda y, k=k: toys.CURVATURES[k] * (y - toys.OPTIMA[k])
      y = x.copy()
      for _ in range(steps):
        y -= rate * (gradient(y) - own[k] + mean)
      new[k] = gradient(x) if option == 1 else (
          own[k] - mean + (x - y) / (steps * rate))
      moves.append(y - x)
    x = x + server_lr * np.average(moves, axis=0, weights=weights[cohort])
    own = new
  return x, np.average(own, axis=0, weights=weights), own


@pytest.mark.parametrize('steps, option', [(1, 2), (10, 1), (50, 2)])
def test_it_reaches_the_optimum_at_any_number_of_steps(steps, option):
  got = run(algorithms.scaffold(
      MODEL, 0.05, option=option, steps=steps, batch_size=2), 150)
  np.testing.assert_allclose(got, toys.curved_optimum(), atol=1e-4)


@pytest.mark.parametrize('steps', [
    2, pytest.param(50, marks=pytest.mark.slow)])
def test_fedavg_does_not(steps):
  got = run(algorithms.fedavg(
      MODEL, optax.sgd(0.05), steps=steps, batch_size=2), 150)
  assert np.abs(got - toys.curved_optimum()).max() > 0.05


@pytest.mark.parametrize('option, server_lr, decay', [
    (1, 0.7, 0.8), (2, 1.0, 1.0),
    pytest.param(2, 0.7, 0.8, marks=pytest.mark.slow)])
def test_partial_participation_agrees_with_numpy(option, server_lr, decay):
  cohorts = [[0, 1], [2], [1, 2], [0, 2], [1], [0, 1, 2]]
  algorithm = algorithms.scaffold(
      MODEL, 0.05, optax.sgd(server_lr), option=option, steps=4, batch_size=3,
      client_schedule=lambda r: decay ** r)
  state = toys.run_cohorts(MODEL, algorithm, toys.curved_data(), cohorts, 1)
  x, c, own = numpy_scaffold(cohorts, lr=0.05, steps=4, option=option,
                             server_lr=server_lr, decay=decay)
  np.testing.assert_allclose(
      state.server.variables.params['w'], x, rtol=1e-4)
  np.testing.assert_allclose(
      algorithm.broadcast(state.server)[1]['w'], c, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(
      state.clients.value['w'][:3], own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('option', [1, 2])
def test_a_rate_of_zero_moves_neither_the_model_nor_controls(option):
  """Of a schedule's round, or once its power is too small for float32."""
  for factor in (0.0, 1e-44):
    algorithm = algorithms.scaffold(
        MODEL, 0.05, option=option, steps=4, batch_size=3,
        client_schedule=lambda r, f=factor: jnp.where(r == 1, f, 1.0))
    states = [toys.run_cohorts(
        MODEL, algorithm, toys.curved_data(), [[0, 1], [1, 2]][:rounds], 1)
              for rounds in (1, 2)]
    before, after = (np.asarray(s.server.variables.params['w'])
                     for s in states)
    np.testing.assert_array_equal(after, before)
    kept = [np.asarray(s.clients.value['w'])[:3] for s in states]
    want = toys.CURVATURES[:, None] * (before - toys.OPTIMA)
    want[0] = kept[0][0]
    np.testing.assert_allclose(
        kept[1], want if option == 1 else kept[0], rtol=1e-5)


def test_weights_of_examples_solve_the_weighted_problem():
  """All seen in the first round, so c is exact, also for later cohorts."""
  sizes = (2, 8, 4)
  algorithm = algorithms.scaffold(
      MODEL, 0.05, steps=4, batch_size=2, weighting='examples')
  cohorts = [[0, 1, 2], [0, 1], [2], [1, 2]] * 30
  state = toys.run_cohorts(
      MODEL, algorithm, toys.curved_data(sizes), cohorts, 1)
  got = state.server.variables.params['w']
  want, _, _ = numpy_scaffold(
      cohorts, lr=0.05, steps=4, option=2, weights=sizes)
  np.testing.assert_allclose(got, want, atol=1e-4)
  np.testing.assert_allclose(got, toys.curved_optimum(sizes), atol=1e-3)


def test_option_1_keeps_the_gradient_at_the_servers_model():
  """At random minibatches, of which option 2 keeps the mean on the way."""
  model = toys.softmax_model()
  data = toys.softmax_data([7])
  algorithm = algorithms.scaffold(model, 0.1, option=1, batch_size=2)
  state = toys.run_cohorts(model, algorithm, data, [[0]])
  step = toys.run_cohorts(model, algorithms.fedsgd(model, 1.0), data, [[0]])
  start = toys.run_cohorts(model, algorithms.fedsgd(model, 1e-12), data, [[0]])
  before, after = (
      s.server.variables.params['w'] for s in (start, step))
  np.testing.assert_allclose(
      state.clients.value['w'][0], before - after, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('bad, message', [
    ({'client_lr': 0}, 'client_lr must be positive'),
    ({'client_lr': optax.sgd(0.1)}, 'client_lr must be a number'),
    ({'option': 3}, 'option must be 1 or 2, got 3'),
    ({'proximal': 0.1}, 'proximal must not be given'),
    ({'epochs': 0}, 'epochs')])
def test_bad_arguments(bad, message):
  with pytest.raises(ValueError, match=message):
    algorithms.scaffold(MODEL, **{'client_lr': 0.1} | bad)

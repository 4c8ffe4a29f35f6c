"""FedDyn on quadratics of different curvatures and optima."""

import numpy as np
import optax
import pytest

from fedjax_sim import algorithms
from tests import toys

MODEL = toys.curved_model()
EVERYONE = [[0, 1, 2]]


def run(algorithm, cohorts, sizes=(4, 4, 4)):
  return toys.run_cohorts(
      MODEL, algorithm, toys.curved_data(sizes), cohorts, lanes=1)


def weights(state):
  return np.asarray(state.server.variables.params['w'])


def numpy_feddyn(cohorts, *, lr, steps, alpha):
  """(x, g) after rounds with these cohorts; the paper's own h."""
  x, h, g = np.zeros(2), np.zeros(2), np.zeros((3, 2))
  for cohort in cohorts:
    ys = []
    for k in cohort:
      y = x.copy()
      for _ in range(steps):
        gradient = toys.CURVATURES[k] * (y - toys.OPTIMA[k])
        y -= lr * (gradient - g[k] + alpha * (y - x))
      g[k] -= alpha * (y - x)
      ys.append(y)
    h -= alpha / 3 * np.sum(np.array(ys) - x, axis=0)
    x = np.mean(ys, axis=0) - h / alpha
  return x, g


@pytest.mark.parametrize('steps, optimizer', [
    (1, optax.sgd(0.05)), (50, optax.sgd(0.05)), pytest.param(
        3, optax.sgd(0.05, momentum=0.5), marks=pytest.mark.slow)])
def test_its_fixed_point_is_the_optimum(steps, optimizer):
  """Of the mean of the losses, where FedAvg's (scaffold_test) is not."""
  algorithm = algorithms.feddyn(
      MODEL, optimizer, alpha=2.0, steps=steps, batch_size=2)
  state = run(algorithm, EVERYONE * 150)
  optimum = toys.curved_optimum()
  np.testing.assert_allclose(weights(state), optimum, atol=1e-4)
  # There each client keeps its own gradient, and these cancel.
  want = toys.CURVATURES[:, None] * (optimum - toys.OPTIMA)
  np.testing.assert_allclose(
      state.clients.value['w'][:3], want, atol=1e-3)


@pytest.mark.parametrize('alpha', [0.5, 5.0])
def test_partial_participation_agrees_with_numpy(alpha):
  cohorts = [[0, 1], [2], [1, 2], [0, 2], [1], [0, 1, 2]]
  algorithm = algorithms.feddyn(
      MODEL, optax.sgd(0.05), alpha=alpha, steps=4, batch_size=3)
  state = run(algorithm, cohorts)
  x, g = numpy_feddyn(cohorts, lr=0.05, steps=4, alpha=alpha)
  np.testing.assert_allclose(weights(state), x, rtol=1e-4)
  np.testing.assert_allclose(state.clients.value['w'][:3], g, rtol=1e-4)


def test_partial_participation_finds_the_weighted_optimum():
  sizes = (2, 8, 4)
  algorithm = algorithms.feddyn(
      MODEL, optax.sgd(0.05), alpha=5.0, steps=10, batch_size=2,
      weighting='examples')
  state = run(algorithm, [[0, 1], [2], [1, 2], [0, 2]] * 40, sizes)
  np.testing.assert_allclose(
      weights(state), toys.curved_optimum(sizes), atol=1e-4)


@pytest.mark.parametrize('bad, message', [
    ({'alpha': 0}, 'alpha must be positive'),
    ({'proximal': 0.1}, 'proximal must not be given'),
    ({'steps': 0}, 'steps')])
def test_bad_arguments(bad, message):
  with pytest.raises(ValueError, match=message):
    algorithms.feddyn(MODEL, optax.sgd(0.1), **{'alpha': 0.1} | bad)

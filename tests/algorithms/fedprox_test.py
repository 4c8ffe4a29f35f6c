import numpy as np
import optax
import pytest

from fedjax_sim import aggregation, algorithms
from fedjax_sim.experiment import simulate as simulate_lib
from tests import toys

MODEL = toys.softmax_model()
DATA = toys.softmax_data([1, 17, 10, 20, 5])


def run(algorithm, data=DATA, model=MODEL, rounds=3):
  return simulate_lib.simulate(model, algorithm, data, rounds=rounds,
                               client_fraction=1.0, lanes=2)


def weights(result):
  return np.asarray(result.variables.params['w'])


def test_without_mu_it_is_fedavg():
  arguments = (MODEL, optax.sgd(0.1, momentum=0.5), optax.sgd(0.7))
  kwargs = {'epochs': 2, 'batch_size': 4, 'weighting': 'uniform'}
  got = run(algorithms.fedprox(*arguments, mu=0.0, **kwargs))
  want = run(algorithms.fedavg(*arguments, **kwargs))
  np.testing.assert_allclose(weights(got), weights(want), rtol=0, atol=1e-6)


@pytest.mark.parametrize('mu, steps', [(0.5, 1), (4.0, 3), (0.5, 8)])
def test_a_quadratic_client_in_closed_form(mu, steps):
  """w -> w - lr ((w - x) + mu (w - w_t)) contracts by 1 - lr (1 + mu).

  Its limit is (x + mu w_t) / (1 + mu), the minimum of the local problem.
  """
  lr, x = 0.1, np.array([4.0, -2.0])
  algorithm = algorithms.fedprox(
      toys.quadratic_model(), optax.sgd(lr), mu=mu, steps=steps,
      batch_size=None)
  got = run(algorithm, toys.points_data([x[None]]), toys.quadratic_model(), 4)
  w = np.zeros(2)
  for _ in range(4):
    limit = (x + mu * w) / (1 + mu)
    w = limit + (1 - lr * (1 + mu)) ** steps * (w - limit)
  np.testing.assert_allclose(weights(got), w, rtol=1e-5)


def test_composition_is_three_arguments():
  """One exact round: a doubled update, proximal, into FedAdam's first step."""
  double = aggregation.transform(
      'double', client=lambda m, s, memory, keys, cohort: (
          m._replace(update=optax.tree.scale(2.0, m.update)), memory))
  x, mu, lr = 3.0, 1.0, 0.1
  algorithm = algorithms.fedprox(
      toys.quadratic_model(), optax.sgd(lr), algorithms.fedadam(0.5, tau=0.1),
      mu=mu, steps=2, batch_size=None,
      aggregator=aggregation.aggregator(double))
  got = run(algorithm, toys.points_data([np.array([[x, x]])]),
            toys.quadratic_model(), 1)
  delta = 2 * (1 - (1 - lr * (1 + mu)) ** 2) * x / (1 + mu)
  v = 0.99 * 0.1 ** 2 + 0.01 * delta ** 2
  want = 0.5 * 0.1 * delta / (np.sqrt(v) + 0.1)
  np.testing.assert_allclose(weights(got), [want, want], rtol=1e-5)


def test_bad_arguments():
  with pytest.raises(ValueError, match='mu must be finite .* >= 0, got -1'):
    algorithms.fedprox(MODEL, optax.sgd(0.1), mu=-1)
  with pytest.raises(ValueError, match='proximal must not be given: mu'):
    algorithms.fedprox(MODEL, optax.sgd(0.1), mu=1, proximal=1)

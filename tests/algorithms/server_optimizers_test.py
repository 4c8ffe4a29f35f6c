"""Algorithm 2 of Reddi et al. (2021), step by step."""

import numpy as np
import optax
import pytest
from jax import numpy as jnp

import fedjax_sim
from fedjax_sim import algorithms
from tests import toys

RNG = np.random.default_rng(0)
GRADIENTS = RNG.normal(size=(5, 3)) * [1e-4, 0.01, 1.0]


def by_hand(rule, rates, beta1, beta2, tau):
  """The weights after each step, in float64, from zero."""
  x, m = np.zeros(3), np.zeros(3)
  v = np.full(3, tau ** 2)
  seen = []
  for rate, g in zip(rates, GRADIENTS, strict=True):
    delta = -g
    m = beta1 * m + (1 - beta1) * delta
    if rule == 'fedadagrad':
      v = v + delta ** 2
    elif rule == 'fedadam':
      v = beta2 * v + (1 - beta2) * delta ** 2
    else:
      v = v - (1 - beta2) * delta ** 2 * np.sign(v - delta ** 2)
    x = x + rate * m / (np.sqrt(v) + tau)
    seen.append(x)
  return np.array(seen)


def weights_of(optimizer):
  x = {'w': jnp.zeros(3)}
  state, seen = optimizer.init(x), []
  for g in GRADIENTS:
    updates, state = optimizer.update({'w': jnp.asarray(g, 'float32')}, state)
    x = optax.apply_updates(x, updates)
    seen.append(np.asarray(x['w']))
  return np.array(seen)


@pytest.mark.parametrize('schedule', [False, True])
@pytest.mark.parametrize('name, beta1, options', [
    ('fedadagrad', 0.0, {}),
    ('fedadam', 0.9, {}),
    ('fedyogi', 0.9, {}),
    ('fedadam', 0.5, {'beta1': 0.5, 'beta2': 0.8}),
    ('fedyogi', 0.0, {'beta1': 0.0, 'beta2': 0.8}),
])
@pytest.mark.parametrize('tau', [1e-3, 0.1])
def test_first_steps_by_hand(name, beta1, options, tau, schedule):
  rates = 0.3 * 0.5 ** np.arange(5) if schedule else np.full(5, 0.3)
  rate = (lambda count: 0.3 * 0.5 ** count) if schedule else 0.3
  got = weights_of(getattr(algorithms, name)(rate, tau=tau, **options))
  want = by_hand(name, rates, beta1, options.get('beta2', 0.99), tau)
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_fedavgm_is_heavy_ball():
  x, v, want = np.zeros(3), np.zeros(3), []
  for g in GRADIENTS:
    v = 0.7 * v + g
    x = x - 0.3 * v
    want.append(x)
  np.testing.assert_allclose(
      weights_of(algorithms.fedavgm(0.3, 0.7)), want, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(
      weights_of(algorithms.fedavgm(0.3)),
      weights_of(optax.sgd(0.3, momentum=0.9)))


@pytest.mark.parametrize('bad', [
    {'tau': 0.0}, {'beta1': 1.5}, {'beta2': -0.1}])
def test_numbers_out_of_range(bad):
  with pytest.raises(ValueError, match=next(iter(bad))):
    algorithms.fedadam(0.1, **bad)


def test_a_rate_is_positive_or_a_schedule():
  with pytest.raises(ValueError, match='learning_rate must be positive'):
    algorithms.fedadam(-1.0)
  algorithms.fedadam(lambda count: 0.1 / (1 + count))


def test_traced_numbers_in_a_sweep():
  model, data = toys.quadratic_model(), toys.points_data(
      [RNG.normal(size=(4, 2)) + 3])
  make = lambda rate: algorithms.fedavg(
      model, optax.sgd(0.1), algorithms.fedadam(rate, 1 - rate, tau=rate / 10))
  swept = fedjax_sim.sweep(model, make, data, rounds=3, seeds=[0],
                           learning_rates=[0.1, 0.5], client_fraction=1.0)
  for rate in (0.1, 0.5):
    alone = fedjax_sim.simulate(
        model, make(rate), data, rounds=3, client_fraction=1.0)
    np.testing.assert_allclose(swept[0, rate].variables.params['w'],
                               alone.variables.params['w'], rtol=1e-5)

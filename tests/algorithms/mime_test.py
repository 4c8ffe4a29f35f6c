"""Mime and MimeLite against the optimizers that they mimic, and NumPy."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import algorithms
from fedjax_sim.core.types import Variables
from fedjax_sim.data.federated import federate
from fedjax_sim.experiment import simulate as simulate_lib
from tests import toys

MODEL = toys.curved_model()
SIZES = [5, 3, 9]
RNG = np.random.default_rng(0)
# Curvatures differ from example to example, so batches do matter.
X = RNG.normal(size=(17, 2)).astype(np.float32)
A = RNG.uniform(0.5, 3.0, size=17).astype(np.float32)
DATA = federate({'x': X, 'y': A}, toys.partition_of(SIZES))
OWN = toys.partition_of(SIZES)


def gradient(w, rows):
  """Of the mean of a |w - x|^2 / 2 over these examples."""
  return (A[rows, None] * (w - X[rows])).mean(0)


def run(algorithm, rounds=4, data=DATA, model=MODEL):
  result = simulate_lib.simulate(model, algorithm, data, rounds=rounds,
                                 client_fraction=1.0, lanes=1)
  return np.asarray(result.variables.params['w'])


def centralized(optimizer, full_gradient, rounds=4):
  params = {'w': jnp.zeros(2)}
  state = optimizer.init(params)
  for _ in range(rounds):
    grads = full_gradient(np.asarray(params['w']))
    grads = {'w': jnp.asarray(grads, jnp.float32)}
    updates, state = optimizer.update(grads, state, params)
    params = optax.apply_updates(params, updates)
  return params['w']


OPTIMIZERS = {
    'momentum': lambda: optax.sgd(0.1, momentum=0.9),
    'adam': lambda: optax.adam(0.1),
    'schedule': lambda: optax.sgd(lambda count: 0.2 * 0.5 ** count),
}


@pytest.mark.parametrize('name, weighting', [
    ('momentum', 'examples'), ('adam', 'uniform'), ('schedule', 'examples')])
def test_one_step_of_mime_is_one_of_the_base_optimizer(name, weighting):
  """On the cohort's full gradient, though a client's batch is of two."""
  optimizer = OPTIMIZERS[name]()
  got = run(algorithms.mime(MODEL, optimizer, weighting=weighting, steps=1,
                            batch_size=2, micro_batch_size=4))
  weights = SIZES if weighting == 'examples' else None
  want = centralized(optimizer, lambda w: np.average(
      [gradient(w, rows) for rows in OWN], axis=0, weights=weights))
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_one_full_step_of_mimelite_is_one_of_heavy_ball():
  """Whose step is linear in the gradient: the mean step is that on the mean."""
  optimizer = OPTIMIZERS['momentum']()
  got = run(algorithms.mimelite(
      MODEL, optimizer, weighting='examples', batch_size=None))
  want = centralized(optimizer, lambda w: gradient(w, np.arange(17)))
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_one_full_step_of_a_single_client_is_one_of_adam():
  alone = federate({'x': X, 'y': A}, toys.partition_of([17]))
  optimizer = OPTIMIZERS['adam']()
  got = run(algorithms.mimelite(MODEL, optimizer, batch_size=None), data=alone)
  want = centralized(optimizer, lambda w: gradient(w, np.arange(17)))
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def numpy_mime(cohorts, lr, beta, corrected):
  """Algorithm 1 with heavy ball, two epochs of batches of 2; (x, s)."""
  order_of = toys.order_of_client(0, SIZES)
  x, s = np.zeros(2), np.zeros(2)
  for t, cohort in enumerate(cohorts):
    c = np.mean([gradient(x, OWN[k]) for k in cohort], axis=0)
    ys = []
    for k in cohort:
      y = x.copy()
      for epoch in range(2):
        order = OWN[k][order_of(t, k, epoch)]
        for i in range(0, len(order), 2):
          g = gradient(y, order[i:i + 2])
          if corrected:
            g = g - gradient(x, order[i:i + 2]) + c
          y = y - lr * (g + beta * s)
      ys.append(y)
    x, s = np.mean(ys, axis=0), c + beta * s
  return x, s


@pytest.mark.parametrize('corrected', [True, False])
def test_minibatches_and_cohorts_agree_with_numpy(corrected):
  cohorts = [[0, 1], [2], [1, 2], [0, 1, 2]]
  make = algorithms.mime if corrected else algorithms.mimelite
  algorithm = make(MODEL, optax.sgd(0.05, momentum=0.6), epochs=2, batch_size=2)
  server = toys.run_cohorts(MODEL, algorithm, DATA, cohorts).server
  x, s = numpy_mime(cohorts, 0.05, 0.6, corrected)
  np.testing.assert_allclose(server.variables.params['w'], x, rtol=1e-4)
  (momentum,) = jax.tree.leaves(server.extra)
  np.testing.assert_allclose(momentum, s, rtol=1e-4)


def test_bad_arguments():
  with pytest.raises(ValueError, match='client_optimizer must be an optax'):
    algorithms.mimelite(MODEL, 0.1)
  with pytest.raises(ValueError, match='steps'):
    algorithms.mime(MODEL, optax.sgd(0.1), steps=0)
  algorithm = algorithms.mime(MODEL, optax.sgd(0.1))
  with pytest.raises(ValueError, match=r"without model_state, got \['mean'\]"):
    algorithm.init(Variables({}, {'mean': jnp.zeros(2)}), None, 3)

import jax
import numpy as np
import optax
import pytest

from fedjax_sim import algorithms
from tests import toys

MODEL = toys.quadratic_model()
CENTRES, SIZES = np.array([(0, 1), (4, 2), (-3, 5)], float), [3, 4, 2]
DATA = toys.points_data([np.tile(c, (n, 1))
                         for c, n in zip(CENTRES, SIZES, strict=True)])
COHORTS = [[0, 1, 2], [1, 2], [0, 2]]
LAM, RHO, ETA, BETA = 1.5, 0.2, 0.3, 0.7


def build(batch_size=None, **kwargs):
  return algorithms.pfedme(
      MODEL, optax.sgd(ETA), optax.sgd(BETA), **{
          'lam': LAM, 'personal_lr': RHO, 'personal_steps': 4, 'steps': 3,
          'weighting': 'uniform', 'batch_size': batch_size} | kwargs)


def solve(w, k, steps):
  theta = w
  for _ in range(steps):
    theta = theta - RHO * (theta - CENTRES[k] + LAM * (theta - w))
  return theta


# A client's examples are alike, so batches of any size have one gradient.
@pytest.mark.parametrize('batch_size', [
    2, pytest.param(None, marks=pytest.mark.slow)])
def test_rounds_by_hand(batch_size):
  algorithm = build(batch_size)
  state = toys.run_cohorts(MODEL, algorithm, DATA, COHORTS)
  w = np.zeros(2)
  for cohort in COHORTS:
    models = []
    for k in cohort:
      local = w
      for _ in range(3):
        local = local - ETA * LAM * (local - solve(local, k, 4))
      models.append(local)
    w = (1 - BETA) * w + BETA * np.mean(models, axis=0)
  np.testing.assert_allclose(
      state.server.variables.params['w'], w, rtol=1e-5)
  own = [v.params['w'] for v in toys.personal_models(algorithm, state, DATA)]
  np.testing.assert_allclose(
      own, [solve(w, k, 3) for k in range(3)], rtol=1e-5)


def test_personal_models_minimize_the_regularized_loss():
  algorithm = build(steps=60)
  state = toys.run_cohorts(MODEL, algorithm, DATA, COHORTS)
  w = jax.device_get(state.server.variables.params['w'])
  own = [v.params['w'] for v in toys.personal_models(algorithm, state, DATA)]
  np.testing.assert_allclose(own, (CENTRES + LAM * w) / (1 + LAM), rtol=1e-4)


def test_the_loss_that_is_reported_is_that_of_the_model():
  algorithm = build(steps=1)
  output = algorithm.client(
      algorithm.broadcast(algorithm.init(MODEL.init(None, None), None, 3)), (),
      toys.client_data(DATA, 1), jax.random.key(0))
  total, count = output.metrics['loss']
  np.testing.assert_allclose(total / count, 0.5 * (4 ** 2 + 2 ** 2))


@pytest.mark.parametrize('bad', [
    {'lam': 0.0}, {'personal_lr': -1.0}, {'personal_steps': 0}])
def test_bad_arguments(bad):
  with pytest.raises(ValueError, match=next(iter(bad))):
    build(**bad)

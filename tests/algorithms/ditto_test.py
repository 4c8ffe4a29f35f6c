import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import algorithms
from fedjax_sim.core.types import Variables
from tests import toys

MODEL = toys.quadratic_model()
CENTRES, SIZES = np.array([(0, 1), (4, 2), (-3, 5)], float), [3, 4, 2]
DATA = toys.points_data([np.tile(c, (n, 1))
                         for c, n in zip(CENTRES, SIZES, strict=True)])
COHORTS = [[0, 1], [1], [0, 1]]  # Client 2 never takes part.
START = np.array([1.0, -2.0])
STAYING = MODEL._replace(init=lambda key, inputs: Variables(
    {'w': jnp.asarray(START, jnp.float32)}, {}))


def run(lam, cohorts=COHORTS, rate=0.1, steps=3, model=MODEL, **kwargs):
  algorithm = algorithms.ditto(
      model, optax.sgd(rate), lam=lam, steps=steps, batch_size=None, **kwargs)
  state = toys.run_cohorts(model, algorithm, DATA, cohorts)
  own = np.stack([v.params['w'] for v in toys.personal_models(
      algorithm, state, DATA)])
  return jax.device_get(state.server.variables.params['w']), own


def own_steps(v, w, k, lam, rate=0.1, steps=3):
  for _ in range(steps):
    v = v - rate * (v - CENTRES[k] + lam * (v - w))
  return v


@pytest.mark.parametrize('proximal', [0.0, 0.7])
def test_rounds_by_hand(proximal):
  w, own, lam = np.zeros(2), [None] * 3, 0.4
  for cohort in COHORTS:
    for k in cohort:
      own[k] = own_steps(w if own[k] is None else own[k], w, k, lam)
    # The global model's proximal term pulls to w as Ditto's does.
    models = [own_steps(w, w, k, proximal) for k in cohort]
    w = np.average(models, axis=0, weights=[SIZES[k] for k in cohort])
  own[2] = own_steps(w, w, 2, lam)  # As its first round would.
  got_w, got = run(lam, proximal=proximal)
  np.testing.assert_allclose(got_w, w, rtol=1e-5)
  np.testing.assert_allclose(got, own, rtol=1e-5)


def test_the_global_model_is_that_of_fedavg():
  plain = algorithms.fedavg(MODEL, optax.sgd(0.1), steps=3, batch_size=None)
  want = toys.run_cohorts(MODEL, plain, DATA, COHORTS)
  np.testing.assert_array_equal(
      run(0.4)[0], want.server.variables.params['w'])


def test_lambda_of_zero_is_training_alone():
  """Others, here those with data elsewhere, have no influence."""
  everyone = [range(3)] * 4
  _, own = run(0.0, everyone)
  np.testing.assert_allclose(own, CENTRES * (1 - 0.9 ** 12), rtol=1e-5)


@pytest.mark.parametrize('lam', [9.0, 9999.0])
def test_a_large_lambda_leads_to_the_global_model(lam):
  """Of F_k + lambda / 2 |v - w|^2 the least is at (c_k + lambda w) / ..."""
  _, own = run(lam, [range(3)], rate=0.5 / (1 + lam), steps=40,
               model=STAYING, server_optimizer=optax.sgd(0.0))
  np.testing.assert_allclose(
      own, (CENTRES + lam * START) / (1 + lam), rtol=1e-5, atol=1e-6)
  if lam > 1000:
    np.testing.assert_allclose(own, np.tile(START, (3, 1)), atol=1e-3)


def test_bad_arguments():
  with pytest.raises(ValueError, match='lam'):
    algorithms.ditto(MODEL, optax.sgd(0.1), lam=-1.0)

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
COHORTS = [[0, 1], [1], [0, 1]]  # Client 2 never takes part.
STEPS, RATE = 3, 0.1


def run(alpha, cohorts=COHORTS, optimizer=optax.sgd(RATE), steps=STEPS,
        **kwargs):
  algorithm = algorithms.apfl(
      MODEL, optimizer, alpha=alpha, steps=steps, batch_size=None, **kwargs)
  state = toys.run_cohorts(MODEL, algorithm, DATA, cohorts)
  own = np.stack([v.params['w'] for v in toys.personal_models(
      algorithm, state, DATA)])
  return jax.device_get(state), own


def train(w, v, alpha, k, adaptive):
  """Algorithm 1's local steps on client k: (w, v, alpha)."""
  for _ in range(STEPS):
    mixed = alpha * v + (1 - alpha) * w - CENTRES[k]
    moved = alpha - RATE * np.dot(v - w, mixed) if adaptive else alpha
    w, v = w - RATE * (w - CENTRES[k]), v - RATE * alpha * mixed
    alpha = np.clip(moved, 0, 1)
  return w, v, alpha


@pytest.mark.parametrize('adaptive', [False, True])
def test_rounds_by_hand(adaptive):
  w, v, alpha = np.zeros(2), [None] * 3, [0.6] * 3
  for cohort in COHORTS:
    models = []
    for k in cohort:
      start = w if v[k] is None else v[k]
      local, v[k], alpha[k] = train(w, start, alpha[k], k, adaptive)
      models.append(local)
    w = np.average(models, axis=0, weights=[SIZES[k] for k in cohort])
  _, v[2], alpha[2] = train(w, w, 0.6, 2, adaptive)  # As its first round would.
  state, own = run(0.6, adaptive=adaptive)
  np.testing.assert_allclose(state.server.variables.params['w'], w, rtol=1e-5)
  np.testing.assert_allclose(state.clients.alpha[:2], alpha[:2], rtol=1e-5)
  assert (np.ptp(alpha) > 0.01) == adaptive
  want = [a * x + (1 - a) * w for a, x in zip(alpha, v, strict=True)]
  np.testing.assert_allclose(own, want, rtol=1e-5)


def test_alpha_of_zero_is_the_global_model():
  state, own = run(0.0)
  w = state.server.variables.params['w']
  np.testing.assert_allclose(own, np.tile(w, (3, 1)), rtol=1e-6)


def test_alpha_of_one_is_training_alone():
  _, own = run(1.0, [range(3)] * 4)
  np.testing.assert_allclose(
      own, CENTRES * (1 - (1 - RATE) ** (4 * STEPS)), rtol=1e-5)


def test_every_client_is_fitted_beside_the_global_model():
  _, own = run(0.9, [range(3)] * 200, steps=1)
  np.testing.assert_allclose(own, CENTRES, atol=1e-3)


def test_alpha_stays_within_its_bounds():
  """Alone, v is far better than w: alpha would go beyond 1."""
  state, _ = run(0.9, [range(3)] * 20, adaptive=True)
  assert state.clients.alpha.max() == 1 and state.clients.alpha.min() >= 0


def test_optimizers_that_see_all_parameters_see_one_model_each():
  """Clipping by norm and decay: w is FedAvg's, and a given alpha stays."""
  optimizer = optax.chain(optax.clip_by_global_norm(0.3),
                          optax.add_decayed_weights(0.1), optax.sgd(RATE))
  plain = algorithms.fedavg(MODEL, optimizer, steps=STEPS, batch_size=None)
  want = toys.run_cohorts(MODEL, plain, DATA, COHORTS)
  state, _ = run(0.6, optimizer=optimizer)
  np.testing.assert_allclose(
      state.server.variables.params['w'], want.server.variables.params['w'],
      rtol=1e-6)
  np.testing.assert_array_equal(state.clients.alpha, np.float32([0.6] * 3))


@pytest.mark.parametrize('alpha', [-0.1, 1.5])
def test_bad_arguments(alpha):
  with pytest.raises(ValueError, match='alpha'):
    algorithms.apfl(MODEL, optax.sgd(0.1), alpha=alpha)

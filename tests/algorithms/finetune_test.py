import jax
import numpy as np
import optax

from fedjax_sim import algorithms, evaluation
from fedjax_sim.clients.local_training import local_training
from tests import toys

MODEL = toys.quadratic_model()
CENTRES = np.array([(0, 1), (4, 2), (-3, 5)], float)
DATA = toys.points_data([np.tile(c, (n, 1))
                         for c, n in zip(CENTRES, [3, 4, 2], strict=True)])


def test_clients_are_evaluated_after_training_of_their_own():
  plain = algorithms.fedavg(MODEL, optax.sgd(0.2), batch_size=2)
  tuned = algorithms.finetune(plain, local_training(
      MODEL, optax.sgd(0.1), steps=5, batch_size=None))
  state = toys.run_cohorts(MODEL, tuned, DATA, [range(3)] * 2)
  w = jax.device_get(state.server.variables.params['w'])
  want = CENTRES + 0.9 ** 5 * (w - CENTRES)
  own = [v.params['w'] for v in toys.personal_models(tuned, state, DATA)]
  np.testing.assert_allclose(own, want, rtol=1e-5)
  # The rounds are those of the algorithm.
  untouched = toys.run_cohorts(MODEL, plain, DATA, [range(3)] * 2)
  np.testing.assert_array_equal(w, untouched.server.variables.params['w'])
  got = evaluation.evaluate_clients(
      MODEL, tuned, state, DATA, DATA, key=jax.random.key(0))
  np.testing.assert_allclose(
      got.values['loss'], 0.5 * np.sum((want - CENTRES) ** 2, 1), rtol=1e-4)


def test_what_personalizes_itself_is_trained_further():
  ditto = algorithms.ditto(MODEL, optax.sgd(0.2), lam=0.5, batch_size=None)
  tuned = algorithms.finetune(ditto, local_training(
      MODEL, optax.sgd(0.1), steps=1, batch_size=None))
  state = toys.run_cohorts(MODEL, tuned, DATA, [range(3)] * 2)
  before, after = (np.stack([v.params['w'] for v in toys.personal_models(
      algorithm, state, DATA)]) for algorithm in (ditto, tuned))
  np.testing.assert_allclose(
      after, CENTRES + 0.9 * (before - CENTRES), rtol=1e-5)

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import algorithms
from fedjax_sim.algorithms.per_fedavg import _another
from fedjax_sim.clients import batches
from tests import toys

MODEL = toys.quadratic_model()
CENTRES, SIZES = np.array([(0, 1), (4, 2), (-3, 5)], float), [3, 4, 2]
DATA = toys.points_data([np.tile(c, (n, 1))
                         for c, n in zip(CENTRES, SIZES, strict=True)])
COHORTS = [[0, 1, 2], [1, 2], [0, 2]]
ALPHA, BETA = 0.3, 0.1


# A client's examples are alike, so batches of any size have one gradient.
@pytest.mark.parametrize('batch_size', [
    2, pytest.param(None, marks=pytest.mark.slow)])
def test_rounds_by_hand(batch_size):
  algorithm = algorithms.per_fedavg(
      MODEL, optax.sgd(BETA), personal_lr=ALPHA, steps=3,
      batch_size=batch_size)
  state = toys.run_cohorts(MODEL, algorithm, DATA, COHORTS)
  w = np.zeros(2)
  for cohort in COHORTS:
    models = []
    for k in cohort:
      local = w
      for _ in range(3):
        inner = local - ALPHA * (local - CENTRES[k])
        local = local - BETA * (inner - CENTRES[k])
      models.append(local)
    w = np.average(models, axis=0, weights=[SIZES[k] for k in cohort])
  np.testing.assert_allclose(
      state.server.variables.params['w'], w, rtol=1e-5)
  own = [v.params['w'] for v in toys.personal_models(algorithm, state, DATA)]
  np.testing.assert_allclose(own, w - ALPHA * (w - CENTRES), rtol=1e-5)


def sine_model():
  """loss(w; x) = 1 - cos(w - x): gradients that are not linear in w."""
  return MODEL._replace(loss=lambda outputs, examples: jnp.sum(
      1 - jnp.cos(outputs - examples['x']), axis=-1))


def test_the_gradient_is_taken_where_the_inner_step_leads():
  model, x = sine_model(), np.array([1.0, 2.0])
  algorithm = algorithms.per_fedavg(
      model, optax.sgd(1.0), personal_lr=0.8, steps=1, batch_size=None)
  state = toys.run_cohorts(model, algorithm, toys.points_data([x[None]]), [[0]])
  want = -np.sin(-0.8 * np.sin(0 - x) - x)
  np.testing.assert_allclose(
      state.server.variables.params['w'], want, rtol=1e-5)


def test_the_other_batch_is_drawn_from_all_of_the_clients_data():
  data = toys.client_data(toys.softmax_data([30, 7, 20]), 1)
  def other(key, width):
    rows, mask = jnp.zeros(width, jnp.int32), jnp.zeros(width, bool)
    return _another(batches.Batch(rows, mask, key, 0, data.examples), data)
  seen = set()
  for i in range(20):
    batch = other(jax.random.key(i), 3)
    assert batch.mask.all() and len(set(batch.rows.tolist())) == 3
    seen |= set(batch.rows.tolist())
  assert seen == set(range(30, 37))
  # Wider than the data: all of them once, then padding.
  batch = other(jax.random.key(0), 10)
  assert batch.mask.tolist() == [True] * 7 + [False] * 3
  assert set(batch.rows[:7].tolist()) == set(range(30, 37))
  assert (batch.rows[7:] == 30).all()


def test_bad_arguments():
  with pytest.raises(ValueError, match='personal_lr'):
    algorithms.per_fedavg(MODEL, optax.sgd(0.1), personal_lr=0.0)

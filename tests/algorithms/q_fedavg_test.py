import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import algorithms, sweep
from tests import toys

MODEL = toys.quadratic_model()
CENTRES, SIZES = [(1, 0), (0, 2), (4, 3)], [2, 3, 5]


def points():
  return toys.points_data([np.tile(np.float32(c), (n, 1))
                           for c, n in zip(CENTRES, SIZES, strict=True)])


def run(algorithm, rounds, data=None, model=MODEL):
  data = points() if data is None else data
  state = toys.run_cohorts(
      model, algorithm, data, [range(data.num_clients)] * rounds)
  return jax.device_get(state.server.variables.params['w'])


@pytest.mark.parametrize('weighting', ['examples', 'uniform'])
def test_q_of_zero_is_fedavg(weighting):
  model, data = toys.softmax_model(), toys.softmax_data([4, 9, 7])
  settings = {'batch_size': 3, 'epochs': 2, 'weighting': weighting}
  want = algorithms.fedavg(model, optax.sgd(0.2), **settings)
  got = algorithms.q_fedavg(model, 0.2, q=0.0, **settings)
  np.testing.assert_allclose(
      run(got, 3, data, model), run(want, 3, data, model), rtol=1e-5)


def paper(q, lr, rounds, p):
  """Algorithm 2 as it is printed, with one full local step."""
  w, lipschitz = np.zeros(2), 1 / lr
  for _ in range(rounds):
    delta, h = np.zeros(2), 0.0
    for centre, p_k in zip(np.array(CENTRES, float), p, strict=True):
      loss = 0.5 * np.sum((w - centre) ** 2)
      local = w - lr * (w - centre)
      step = lipschitz * (w - local)
      delta += p_k * loss ** q * step
      h += p_k * (q * loss ** (q - 1) * np.sum(step ** 2)
                  + lipschitz * loss ** q)
    w = w - delta / h
  return w


@pytest.mark.parametrize('q, weighting', [
    (0.5, 'examples'), (1.0, 'uniform'), (3.0, 'examples')])
def test_rounds_are_those_of_the_paper(q, weighting):
  algorithm = algorithms.q_fedavg(
      MODEL, 0.2, q=q, batch_size=None, weighting=weighting)
  p = SIZES if weighting == 'examples' else [1, 1, 1]
  np.testing.assert_allclose(
      run(algorithm, 5), paper(q, 0.2, 5, p), rtol=1e-5)


def test_it_ends_where_the_fair_objective_is_least():
  q = 4.0
  w = run(algorithms.q_fedavg(MODEL, 0.3, q=q, batch_size=None), 400)
  distance = w - np.array(CENTRES, float)
  losses = 0.5 * np.sum(distance ** 2, 1)
  parts = np.array(SIZES)[:, None] * losses[:, None] ** q * distance
  np.testing.assert_allclose(parts.sum(0) / np.abs(parts).sum(0), 0, atol=1e-3)
  plain = np.average(CENTRES, axis=0, weights=SIZES)
  worst = lambda w: np.max(np.sum((w - np.array(CENTRES)) ** 2, 1))
  assert worst(w) < 0.9 * worst(plain)


def test_q_can_be_swept():
  results = sweep(
      MODEL, lambda q: algorithms.q_fedavg(MODEL, 0.2, q=q, batch_size=None),
      points(), learning_rates=[0.5, 2.0], seeds=[0], rounds=3, lanes=2,
      client_fraction=1.0)
  for (_, q), result in results.items():
    np.testing.assert_allclose(
        result.variables.params['w'], paper(q, 0.2, 3, SIZES), rtol=1e-5)


def test_a_rate_of_zero_changes_nothing():
  """Of a schedule's round, or once its power is too small for float32."""
  for factor in (0.0, 1e-44):
    found, want = (run(algorithms.q_fedavg(
        MODEL, 0.2, q=1.0, batch_size=None,
        client_schedule=lambda r, f=f: jnp.where(r == 1, f, 1.0)), rounds)
                   for f, rounds in ((factor, 3), (1.0, 2)))
    np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize('bad', [{'q': -1.0}, {'client_lr': 0.0}])
def test_bad_arguments(bad):
  with pytest.raises(ValueError, match=next(iter(bad))):
    algorithms.q_fedavg(MODEL, **{'client_lr': 0.1, 'q': 1.0} | bad)

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import algorithms
from fedjax_sim.clients.work import local_work
from fedjax_sim.experiment import simulate as simulate_lib
from tests import toys

SIZES = np.array([0, 1, 9, 10, 11, 37])


def steps_of(work, sizes=SIZES, seed=0):
  keys = jax.random.split(jax.random.key(seed), len(sizes))
  return np.asarray(jax.vmap(work.num_steps)(jnp.asarray(sizes), keys))


@pytest.mark.parametrize('arguments, want', [
    ({}, [0, 1, 1, 1, 2, 4]),
    ({'epochs': 3}, [0, 3, 3, 3, 6, 12]),
    ({'epochs': 0.5}, [0, 1, 1, 1, 1, 2]),
    ({'epochs': 1.5, 'batch_size': 4}, [0, 2, 5, 5, 5, 15]),
    ({'steps': 7}, [0, 7, 7, 7, 7, 7]),
    ({'epochs': 2, 'batch_size': None}, [0, 2, 2, 2, 2, 2]),
])
def test_steps(arguments, want):
  work = local_work(**arguments)
  np.testing.assert_array_equal(steps_of(work), want)
  if arguments.get('batch_size', 10) is not None:
    np.testing.assert_array_equal(work.planned(SIZES), want)


def test_stragglers_do_a_uniform_part():
  """Of 4 steps: 4 unless late; late ones 1, 2, 3 or 4, each as often."""
  sizes = np.full(20_000, 37)
  steps = steps_of(local_work(stragglers=0.6), sizes)
  shares = np.bincount(steps, minlength=5) / len(sizes)
  np.testing.assert_allclose(shares, [0, 0.15, 0.15, 0.15, 0.55], atol=0.015)
  assert steps_of(local_work(stragglers=1.0), np.zeros(50, int)).max() == 0


def test_drawn_work_is_done_and_differs_from_round_to_round():
  """On a quadratic a client's distance tells its steps."""
  model = toys.quadratic_model()
  data = toys.points_data([np.tile([[8.0, 0]], (10, 1))])
  algorithm = algorithms.fedavg(
      model, optax.sgd(0.1), batch_size=1, stragglers=1.0)
  seen, before = set(), 8.0
  for rounds in range(1, 7):
    result = simulate_lib.simulate(
        model, algorithm, data, rounds=rounds, client_fraction=1.0)
    distance = 8.0 - float(result.variables.params['w'][0])
    steps = np.log(before / distance) / -np.log(0.9)
    assert abs(steps - round(steps)) < 0.05 and 1 <= round(steps) <= 10
    seen.add(round(steps))
    before = distance
  assert len(seen) > 1


@pytest.mark.parametrize('field, value', [
    ('epochs', 0), ('epochs', -1.0), ('steps', 0), ('steps', 1.5),
    ('stragglers', 1.1), ('batch_size', 0)])
def test_bad_arguments(field, value):
  with pytest.raises(ValueError, match=field):
    local_work(**{field: value})

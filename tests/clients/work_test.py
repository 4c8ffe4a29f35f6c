from fractions import Fraction

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import algorithms
from fedjax_sim.clients.local_training import local_training
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


@pytest.mark.parametrize('epochs', [
    0.3, 0.07, 1.1, 2.3, 0.001, 1e-5, 1 / 3, 0.123456789012345, 12, 7.0])
def test_steps_are_those_of_exact_decimals_on_host_and_device(epochs):
  sizes = np.arange(4000)
  exact = Fraction(str(epochs))
  want = [-(-exact.numerator * n // exact.denominator) for n in sizes.tolist()]
  work = local_work(epochs=epochs, batch_size=1)
  np.testing.assert_array_equal(work.planned(sizes), want)
  np.testing.assert_array_equal(
      work.num_steps(jnp.asarray(sizes), jax.random.key(0)), want)


def test_more_steps_than_can_be_counted_are_refused():
  """Where 2^31 - 1 is the last number that is not too large."""
  model, data = toys.softmax_model(), toys.softmax_data([6, 13])
  for epochs, batch_size in ((1e9, 5), (2.0 ** 31, 20), (0.3e10, None)):
    algorithm = algorithms.fedavg(
        model, optax.sgd(0.1), epochs=epochs, batch_size=batch_size)
    with pytest.raises(ValueError, match='epochs must make at most 2'):
      simulate_lib.simulate(
          model, algorithm, data, rounds=1, client_fraction=1.0)
  most = local_work(epochs=2 ** 31 - 1, batch_size=20)
  assert most.planned(data.sizes).tolist() == [2 ** 31 - 1] * 2
  assert most.num_steps(jnp.int32(13), jax.random.key(0)) == 2 ** 31 - 1
  start = model.init(jax.random.key(0), data.examples['x'][:1])
  late = local_training(model, optax.sgd(0.1), epochs=1e9, batch_size=5)
  with pytest.raises(ValueError, match='epochs must make at most'):
    late.run(start, toys.client_data(data, 1), jax.random.key(0), 0)


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


def test_steps_and_epochs_exclude_each_other():
  with pytest.raises(ValueError, match='leave one .*steps=3 and epochs=2'):
    local_work(steps=3, epochs=2)
  assert local_work(steps=3).planned(np.array([5])).tolist() == [3]


@pytest.mark.parametrize('field, value', [
    ('epochs', 0), ('epochs', -1.0), ('steps', 0), ('steps', 1.5),
    ('stragglers', 1.1), ('batch_size', 0)])
def test_bad_arguments(field, value):
  with pytest.raises(ValueError, match=field):
    local_work(**{field: value})

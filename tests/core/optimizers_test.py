"""Randomness inside of optimizers: from who draws and when, nothing else."""

from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

import fedjax_sim
from fedjax_sim import algorithms
from fedjax_sim.core import optimizers
from fedjax_sim.experiment import simulate as simulate_lib
from tests import toys

MODEL = toys.quadratic_model()
# At the optimum, so that only noise moves a client.
DATA = toys.points_data([np.zeros((2, 2))] * 2)
NOISY = optax.chain(optax.add_noise(1.0, 0.0, 7), optax.sgd(0.1))


def moves(cohorts, algorithm):
  """Where the model is after each of these cohorts, from the round before."""
  states = [toys.run_cohorts(MODEL, algorithm, DATA, cohorts[:n], lanes=1)
            for n in range(1, len(cohorts) + 1)]
  w = [np.zeros(2), *(np.asarray(s.server.variables.params['w'])
                      for s in states)]
  return np.diff(w, axis=0)


@pytest.mark.parametrize('make', [
    lambda: algorithms.fedavg(MODEL, NOISY),
    lambda: algorithms.fedsgd(MODEL, NOISY)])
def test_clients_and_rounds_draw_their_own_noise(make):
  first, second = moves([[0], [0]], make())
  (other,) = moves([[1]], make())
  for a, b in ((first, second), (first, other)):
    assert np.abs(a - b).max() > 1e-3
  np.testing.assert_array_equal(first, moves([[0]], make())[0])


def final(seed, **optimizer):
  result = simulate_lib.simulate(
      MODEL, algorithms.fedavg(MODEL, optax.sgd(0.1), **optimizer), DATA,
      rounds=2, client_fraction=1.0, seed=seed, lanes=1)
  return np.asarray(result.variables.params['w'])


def test_a_server_draws_by_the_seed_of_the_run_in_sweeps_too():
  apart = [final(seed, server_optimizer=NOISY) for seed in (0, 1)]
  assert np.abs(apart[0] - apart[1]).max() > 1e-3
  swept = fedjax_sim.sweep(
      MODEL, lambda rate: algorithms.fedavg(MODEL, optax.sgd(rate), NOISY),
      DATA, rounds=2, seeds=[0, 1], learning_rates=[0.1], client_fraction=1.0,
      devices=1, lanes=1)
  for seed in (0, 1):
    np.testing.assert_allclose(
        swept[seed, 0.1].variables.params['w'], apart[seed], rtol=1e-5)


def test_centralized_noise_differs_from_round_to_round():
  data = toys.points_data([np.zeros((2, 2))])
  algorithm = algorithms.centralized_sgd(MODEL, NOISY)
  one, two = [np.asarray(simulate_lib.simulate(
      MODEL, algorithm, data, rounds=n, client_fraction=1.0,
      lanes=1).variables.params['w']) for n in (1, 2)]
  assert np.abs(two - one - 0.9 * one + one).max() > 1e-3


class Old(NamedTuple):
  """A key as plain numbers."""

  rng_key: jax.Array
  mean: jax.Array


class Seed(NamedTuple):
  seed: jax.Array


def test_all_keys_of_a_state_are_replaced_and_nothing_else():
  key = jax.random.key(3)
  state = ((Old(jax.random.PRNGKey(0), jnp.ones(2)),),
           {'a': jax.random.split(jax.random.key(0), 2), 'b': jnp.int32(4)})
  got, again, other = (optimizers.seeded(state, k) for k in (
      key, key, jax.random.key(4)))
  data = lambda tree: [
      jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
      else x for x in jax.tree.leaves(tree)]
  changed = lambda a, b: [
      not np.array_equal(x, y) for x, y in zip(data(a), data(b), strict=True)]
  assert changed(got, state) == changed(got, other) == [
      True, False, True, False]
  assert not any(changed(got, again))
  assert len(np.unique(np.concatenate(
      [data(got)[0][None], data(got)[2]]), axis=0)) == 3


def test_randomness_that_can_not_be_told_apart_is_refused():
  with pytest.raises(ValueError, match='keeps its randomness in 0/seed'):
    optimizers.seeded((Seed(jnp.int32(0)),), jax.random.key(0))
  for build in (algorithms.mime, algorithms.mimelite):
    with pytest.raises(ValueError, match='must not be random in mime'):
      toys.run_cohorts(MODEL, build(MODEL, NOISY), DATA, [[0]])

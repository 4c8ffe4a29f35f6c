"""Whatever takes a seed: seeds never share anything, and others are refused."""

import jax
import numpy as np
import optax
import pytest

import fedjax_sim as fs
from fedjax_sim import algorithms
from fedjax_sim.data import partition, sampling
from fedjax_sim.experiment import simulate_many
from fedjax_sim.fedjax import host_batches
from fedjax_sim.simulation import build
from tests import toys
from tests.core.random_test import WRONG_SEEDS

MODEL = toys.softmax_model()
LABELS = np.arange(40) % 4


def make(rate):
  return algorithms.fedavg(MODEL, optax.sgd(rate), batch_size=2)


def simulate(seed):
  return fs.simulate(
      MODEL, make(0.1), toys.softmax_data([4, 4, 4]), rounds=1,
      clients_per_round=2, seed=seed, devices=1,
      lanes=1).state.server.variables.params


def initial(seed):
  simulation = build.build(
      MODEL, make(0.1), toys.softmax_data([4, 4]), sampling.uniform(2, 2, 0),
      seed=seed, devices=1, lanes=1)
  return simulation.init_on_devices().server.variables.params


# name -> (seed -> arrays that are drawn from it)
DRAWS = {
    'sampler': lambda seed: sampling.uniform(100, 20, seed).sample(0),
    'iid': lambda seed: partition.iid(40, 4, seed=seed),
    'shards': lambda seed: partition.shards(LABELS, 4, 2, seed=seed),
    'dirichlet': lambda seed: partition.dirichlet(LABELS, 4, 1.0, seed=seed),
    'client_dirichlet': lambda seed: partition.client_dirichlet(
        LABELS, 4, 1.0, seed=seed),
    'label_sets': lambda seed: partition.label_sets(LABELS, 4, 2, seed=seed),
    'quantity': lambda seed: partition.quantity(
        40, 4, sigma=1.0, seed=seed),
    'split': lambda seed: partition.split(
        [np.arange(40)], 0.5, seed=seed)[0],
    'weights': initial,
}


def flat(tree):
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


@pytest.mark.parametrize('name', DRAWS)
def test_seeds_that_are_equal_in_their_lower_half_draw_apart(name):
  draws = [flat(DRAWS[name](seed)) for seed in (1, 1, 1 + 2**32, 1 + 2**63)]
  np.testing.assert_array_equal(draws[0], draws[1])
  for a, b in ((0, 2), (0, 3), (2, 3)):
    assert len(draws[a]) != len(draws[b]) or (draws[a] != draws[b]).any()


def test_no_round_of_one_seed_is_another_one_of_another_seed():
  cohorts = [tuple(sampling.uniform(1000, 20, seed).sample(r))
             for seed in (1, 1 + 2**32, 1 + 2**33, 2**63) for r in range(4)]
  assert len(set(cohorts)) == len(cohorts)


def test_a_sweep_s_members_are_the_runs_of_their_seeds():
  seeds = [3, 3 + 2**32]
  swept = simulate_many.sweep(
      MODEL, make, toys.softmax_data([4, 4, 4]), rounds=1, seeds=seeds,
      learning_rates=[0.1], clients_per_round=2, devices=1, lanes=1)
  for seed in seeds:
    params = swept[seed, 0.1].state.server.variables.params
    np.testing.assert_allclose(flat(params), flat(simulate(seed)), rtol=1e-6)


@pytest.mark.parametrize('seed', WRONG_SEEDS, ids=str)
def test_what_is_no_seed_is_refused(seed):
  for use in (*DRAWS.values(), simulate):
    with pytest.raises(ValueError, match='^seed must be a whole number'):
      use(seed)
  with pytest.raises(ValueError, match='seeds must be a whole number from'):
    simulate_many.sweep(
        MODEL, make, toys.softmax_data([4, 4]), rounds=1, seeds=[seed],
        learning_rates=[0.1], clients_per_round=2)


@pytest.mark.parametrize('seed', [-1, 2**32, True, 0.5])
def test_fedjax_s_batches_take_the_seeds_of_its_generator(seed):
  with pytest.raises(ValueError, match=r'to 2\*\*32 - 1, got'):
    host_batches.shuffle_repeat_batch(
        {'x': np.arange(4)}, batch_size=2, num_epochs=1, seed=seed)

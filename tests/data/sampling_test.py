"""Sampling: cohorts from (seed, round) alone, uniform, and cheap."""

import fractions
import math
import tracemalloc

import numpy as np
import pytest

from fedjax_sim.data import sampling


@pytest.mark.parametrize('num_clients, cohort', [
    (1, 1), (10, 10), (100, 10), (20_000, 7), (20_000, 15_000)])
def test_cohorts_are_distinct_clients(num_clients, cohort):
  sampler = sampling.uniform(num_clients, cohort, 3)
  assert (sampler.max_cohort, sampler.num_clients) == (cohort, num_clients)
  clients = sampler.sample(5)
  assert clients.shape == (cohort,) and clients.dtype == np.int32
  assert len(set(clients.tolist())) == cohort
  assert clients.min() >= 0 and clients.max() < num_clients


def test_a_round_depends_on_seed_and_round_only():
  one, two = sampling.uniform(1000, 50, 1), sampling.uniform(1000, 50, 1)
  forward = [one.sample(t) for t in range(10)]
  backward = [two.sample(t) for t in reversed(range(10))]
  assert all(map(np.array_equal, forward, reversed(backward)))
  assert len({tuple(clients) for clients in forward}) == 10
  other = sampling.uniform(1000, 50, 2)
  assert not any(np.array_equal(other.sample(t), forward[t]) for t in range(10))
  # (1, 2) and (2, 1) are different streams too.
  assert not np.array_equal(one.sample(2), other.sample(1))


@pytest.mark.parametrize('num_clients', [20, 15_000])
def test_clients_are_drawn_uniformly(num_clients):
  # Counted over 20 groups of clients, so that NumPy's other algorithm, for more
  # than 10,000 clients, is tested too. Over T rounds of M = 5, the number of
  # draws from a group has mean T M / 20; with N = 20 every group is a client,
  # whose indicator has variance 1/4 * 3/4.
  rounds, cohort = 4000, 5
  sampler = sampling.uniform(num_clients, cohort, 0)
  draws = np.stack([sampler.sample(t) for t in range(rounds)])
  groups = draws * 20 // num_clients
  counts = np.bincount(groups.ravel(), minlength=20)
  error = math.sqrt(rounds * cohort * 0.05)  # Of a Poisson, an upper bound.
  assert np.allclose(counts, rounds * cohort / 20, atol=5 * error)
  # The first of a cohort is like any other: cohorts come in random order.
  first = np.bincount(groups[:, 0], minlength=20)
  assert np.allclose(first, rounds / 20, atol=5 * math.sqrt(rounds / 20))


@pytest.mark.parametrize('sampler_of', [
    lambda seed: sampling.uniform(1000, 50, seed),
    lambda seed: sampling.by_size(np.arange(1, 1001), 50, seed)])
def test_every_seed_draws_for_itself(sampler_of):
  """Also of 64 bits: their halves and the round have places of their own."""
  drawn = [sampler_of(seed).sample(number)
           for seed in (0, 1, 2 ** 32, 2 ** 33 + 1, 2 ** 64 - 1)
           for number in (0, 1)]
  assert len({tuple(clients) for clients in drawn}) == 10


def test_the_words_of_a_small_seed_are_the_seed_and_the_round():
  rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([7, 3])))
  sizes = np.arange(1, 31)
  want = rng.choice(30, 5, replace=False, p=sizes / sizes.sum())
  np.testing.assert_array_equal(
      sampling.by_size(sizes, 5, 7).sample(3), want)


def test_who_knows_that_somebody_has_examples():
  sizes = np.array([3, 0, 2, 0])
  few, many = (sampling.uniform(4, count, 0) for count in (2, 3))
  assert few.may_be_idle(sizes) and not many.may_be_idle(sizes)
  assert not few.may_be_idle(sizes + 1)
  own = sampling.Sampler(lambda r: np.arange(3), 3, 4)
  assert own.may_be_idle(sizes + 1)  # It might draw nobody.


def test_pairs_are_drawn_uniformly():
  # Two given clients of 20 are in a cohort of 5 with chance 5 * 4 / (20 * 19).
  rounds, chance = 4000, 20 / 380
  sampler = sampling.uniform(20, 5, 0)
  present = np.zeros((rounds, 20))
  for t in range(rounds):
    present[t, sampler.sample(t)] = 1
  together = (present.T @ present / rounds)[~np.eye(20, dtype=bool)]
  error = math.sqrt(chance * (1 - chance) / rounds)
  # A cohort of five neighbours, though uniform, would give pairs up to 0.2.
  assert np.abs(together - chance).max() < 5 * error


def peak_bytes(function):
  tracemalloc.start()
  function()
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  return peak


def test_a_draw_never_walks_all_clients():
  sampler = sampling.uniform(10_000_000, 1000, 0)
  assert peak_bytes(lambda: sampler.sample(0)) < 200_000
  # The measure does see an array of all clients.
  assert peak_bytes(lambda: np.random.default_rng(0).permutation(10**7)) > 4e7


def test_cohort_of_the_paper():
  sizes = [sampling.cohort_size(100, client_fraction=c)
           for c in (0.0, 0.1, 0.2, 0.5, 1.0)]
  assert sizes == [1, 10, 20, 50, 100]


def test_fractions_are_exact_despite_floating_point():
  assert 0.29 * 100 < 29
  for percent in range(101):
    for num_clients in range(1, 300, 7):
      exact = math.floor(fractions.Fraction(percent, 100) * num_clients)
      assert sampling.cohort_size(
          num_clients, client_fraction=percent / 100) == max(exact, 1)
  for k in range(1, 50):
    assert sampling.cohort_size(k, client_fraction=1 / k) == 1
    assert sampling.cohort_size(10 * k, client_fraction=1 / k) == 10


@pytest.mark.parametrize('call, message', [
    (lambda: sampling.cohort_size(10), 'exactly one of .* None and None'),
    (lambda: sampling.cohort_size(
        10, clients_per_round=2, client_fraction=0.1), 'exactly one of'),
    (lambda: sampling.cohort_size(10, clients_per_round=11),
     'clients_per_round must be at most num_clients = 10, got 11'),
    (lambda: sampling.cohort_size(10, clients_per_round=0),
     'clients_per_round .* got 0'),
    (lambda: sampling.cohort_size(10, client_fraction=1.01), r'\[0, 1\].*1.01'),
    (lambda: sampling.cohort_size(10, client_fraction=-0.1), 'client_fraction'),
    (lambda: sampling.cohort_size(10, client_fraction=math.nan), 'got nan'),
    (lambda: sampling.cohort_size(0, client_fraction=0.1), 'num_clients'),
    (lambda: sampling.uniform(10, 11, 0), 'at most num_clients = 10, got 11'),
    (lambda: sampling.uniform(10, 5, -1), 'seed .* got -1'),
    (lambda: sampling.by_size([1] * 10, 5, 2 ** 64), r'seed .* 2\*\*64 - 1'),
    (lambda: sampling.uniform(10, 5, 0).sample(-1), 'round .* got -1'),
])
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()

"""Cohorts in which everyone takes part with one chance."""

import numpy as np
import pytest
from scipy import stats

from fedjax_sim import data

N, M, ROUNDS = 200, 20, 4000


def test_clients_come_independently_with_one_chance():
  sampler = data.poisson(N, M, seed=3)
  there = np.zeros((ROUNDS, N))
  for r in range(ROUNDS):
    there[r, sampler.sample(r)] = 1
  # A client: 400 rounds of 4,000, +- 19.
  assert np.allclose(there.sum(axis=0), 400, atol=5 * 19)
  # Were their number fixed, its variance would be zero; it is N q (1 - q) = 18,
  # with a relative standard error of sqrt(2 / 4000) = 2.2%.
  sizes = there.sum(axis=1)
  assert sizes.mean() == pytest.approx(M, abs=5 * np.sqrt(18 / ROUNDS))
  assert sizes.var() == pytest.approx(18, rel=5 * 0.022)
  assert sampler.scheme == ('poisson', M)


@pytest.mark.parametrize('n, m', [
    (N, M), (7, 1), (10 ** 6, 1), (10 ** 6, 5000), (100, 99)])
def test_there_are_places_for_all_but_the_unlikeliest(n, m):
  most = data.poisson(n, m, seed=0).max_cohort
  assert stats.binom.sf(most, n, m / n) <= 1e-20
  assert stats.binom.sf(most - 1, n, m / n) > 1e-20


def test_with_all_clients_there_is_nothing_to_draw():
  assert sorted(data.poisson(5, 5, seed=0).sample(7)) == list(range(5))


def test_a_function_of_seed_and_round():
  draw = lambda seed, r: data.poisson(N, M, seed).sample(r).tolist()
  assert draw(1, 5) == draw(1, 5)
  assert draw(1, 5) != draw(1, 6) and draw(1, 5) != draw(2, 5)
  with pytest.raises(ValueError, match='clients_per_round must be at most'):
    data.poisson(3, 4, seed=0)
  with pytest.raises(ValueError, match='round must be'):
    data.poisson(3, 2, seed=0).sample(-1)

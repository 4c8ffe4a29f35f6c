"""Mixes of labels against derived moments and a chance by hand."""

import numpy as np
import pytest

from fedjax_sim.data import partition as partition_lib
from fedjax_sim.data.partition.client_dirichlet import _draw


@pytest.mark.parametrize('alpha', [1.0, 5.0])
def test_mixes_have_the_variance_of_their_alpha(alpha):
  labels = np.repeat([0, 1, 1, 1], 100 * 500)
  partition = partition_lib.client_dirichlet(labels, 400, alpha, seed=0)
  assert {len(client) for client in partition} == {500}
  shares = np.array([np.mean(labels[client] == 0) for client in partition])
  # All examples are used, so that the mean is p = 1/4. Of q the variance is
  # p (1 - p) / (alpha + 1); 500 draws from it add no more than 1 / 2000.
  assert shares.mean() == 0.25
  variance = 0.25 * 0.75 / (alpha + 1)
  # 400 shares: the estimate's relative standard error is about 7%.
  assert abs(shares.var() / variance - 1) < 0.2
  for wrong in (alpha / 2, 2 * alpha):
    assert abs(shares.var() * (wrong + 1) / (0.25 * 0.75) - 1) > 0.2


def test_what_has_run_out_is_drawn_no_more_and_turns_are_fair():
  # Two examples, one of each label; clients want label 0 with chances 0.9 and
  # 0.6. Whoever is first takes what it wants: client 0 has label 0 with chance
  # (0.9 + 0.4) / 2.
  mixes = np.array([[0.9, 0.1], [0.6, 0.4]])
  rng, ones = np.random.default_rng(0), np.ones(2, np.int64)
  drawn = [_draw(rng, mixes, ones, ones) for _ in range(4000)]
  assert all((counts.sum(0) == 1).all() and (counts.sum(1) == 1).all()
             for counts in drawn)
  assert np.mean([counts[0, 0] for counts in drawn]) == pytest.approx(
      0.65, abs=5 * 0.0076)


def test_who_wants_nothing_that_is_left_takes_a_share_of_it():
  # Both want label 0 alone, of which there is one example of 1,000.
  counts = _draw(np.random.default_rng(0), np.array([[1.0, 0, 0]] * 2),
                 np.array([1, 300, 699]), np.array([500, 500]))
  assert counts.sum(axis=1).tolist() == [500, 500]
  assert counts.sum(axis=0).tolist() == [1, 300, 699]
  # 150 of label 1, with a standard error of sqrt(1000 * 0.3 * 0.7 / 4) = 7.2.
  assert abs(counts[0, 1] - 150) < 5 * 7.2

"""Shares against derived moments."""

import numpy as np
import pytest

from fedjax_sim.data import partition as partition_lib
from fedjax_sim.data.partition.dirichlet import _dirichlet_counts
from tests.data.partition.cases import LABELS, assert_uses_all_once


def shares(alpha, num_labels=200, per_label=1000, num_clients=10, seed=0):
  """float [L, N]: each client's share of each label."""
  labels = np.repeat(np.arange(num_labels), per_label)
  labels = np.random.default_rng(seed).permutation(labels)
  partition = partition_lib.dirichlet(
      labels, num_clients, alpha, seed=seed, min_size=0)
  counts = np.zeros((num_labels, num_clients))
  for i, client in enumerate(partition):
    for label in labels[client]:
      counts[label, i] += 1
  return counts / per_label


@pytest.mark.parametrize('alpha', [0.1, 0.5, 5.0])
def test_dirichlet_has_the_variance_of_its_alpha(alpha):
  def variance(a):
    return 0.1 * 0.9 / (10 * a + 1)
  sample = np.mean((shares(alpha) - 0.1) ** 2)
  # 2,000 shares; the estimate's relative standard error is about 4%.
  assert abs(sample / variance(alpha) - 1) < 0.15
  # The same bound rejects an alpha that is off by a factor of two.
  for wrong in (alpha / 2, alpha * 2):
    assert abs(sample / variance(wrong) - 1) > 0.15


def test_dirichlet_mean_share_is_equal():
  # The variance of a mean over 200 labels is 0.09 / 6 / 200: +- 0.0087.
  assert np.allclose(shares(0.5).mean(axis=0), 0.1, atol=5 * 0.0087)


def test_dirichlet_is_fair_where_a_label_is_rare():
  # One example a label: each of 4 clients has a quarter of 4,000, +- 0.0068.
  counts = shares(1.0, num_labels=4000, per_label=1, num_clients=4)
  assert np.allclose(counts.mean(axis=0), 0.25, atol=5 * 0.0068)


@pytest.mark.parametrize('total_share', [0.98, 1.0, 1.02])
@pytest.mark.parametrize('offset', [0.0, 0.99])
def test_dirichlet_counts_add_up_despite_rounding(total_share, offset):
  class Generator:
    def dirichlet(self, alpha, size):
      return np.array([[0.5, total_share - 0.5, 0.0]] * size)
    def random(self, shape):
      return np.full(shape, offset)
  counts = _dirichlet_counts(
      Generator(), np.array([10, 100]), 3, 1.0)
  assert counts.sum(axis=1).tolist() == [10, 100]
  assert counts.min() >= 0


def test_dirichlet_extremes():
  # E sum(share^2) = (alpha + 1) / (N alpha + 1): 0.99 for one client a label,
  # 0.1 for all alike.
  assert np.mean(np.sum(shares(0.001) ** 2, axis=1)) > 0.95
  assert np.abs(shares(1e6) - 0.1).max() <= 0.0011 + 5 * 1e-4


def test_dirichlet_deals_a_label_at_random():
  # Client 0's examples of the only label come from all over the file: not, as
  # without a shuffle, its beginning.
  labels = np.zeros(10000, int)
  client = partition_lib.dirichlet(labels, 2, 1e6, seed=0)[0]
  # 5,000 of 10,000: standard error of the mean 2887 / sqrt(5000) / sqrt(2).
  assert abs(client.mean() - 4999.5) < 5 * 29
  assert np.all(np.diff(client) > 0)


def test_dirichlet_reaches_the_minimum_size():
  for seed in range(20):
    partition = partition_lib.dirichlet(
        LABELS, 10, 0.5, seed=seed, min_size=15)
    assert min(map(len, partition)) >= 15


def test_dirichlet_may_leave_clients_empty_when_asked():
  partition = partition_lib.dirichlet(LABELS, 50, 0.01, seed=0, min_size=0)
  assert_uses_all_once(partition, 600)
  assert min(map(len, partition)) == 0


@pytest.mark.parametrize('alpha', [1e-300, 1e300])
def test_dirichlet_is_sound_at_the_edge_of_floats(alpha):
  partition = partition_lib.dirichlet(LABELS, 10, alpha, seed=0, min_size=0)
  assert_uses_all_once(partition, 600)


def test_dirichlet_gives_up_and_says_how_near_it_came():
  # 5 labels, each with one client: at most 5 of 50 clients have anything.
  with pytest.raises(
      ValueError, match=r'max_tries=7 draws the best had 0 .*alpha=1e-05'):
    partition_lib.dirichlet(LABELS, 50, 1e-5, seed=0, max_tries=7)

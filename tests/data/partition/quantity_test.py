"""Sizes against derived moments, and by hand."""

import math

import numpy as np
import pytest

from fedjax_sim.data import partition as partition_lib
from fedjax_sim.data.partition.quantity import _apportion
from tests.data.partition.cases import assert_uses_all_once


@pytest.mark.parametrize('sigma', [0.3, 1.0])
def test_quantity_sizes_are_log_normal(sigma):
  sizes = np.array([len(c) for c in partition_lib.quantity(
      2_000_000, 2000, seed=0, sigma=sigma)])
  logs = np.log(sizes)
  # Standard errors: of the deviation sigma / sqrt(2 N), of the skewness
  # sqrt(6 / N) = 0.055.
  assert abs(logs.std() / sigma - 1) < 5 / math.sqrt(2 * 2000)
  assert abs(logs.std() / (1.2 * sigma) - 1) > 5 / math.sqrt(2 * 2000)
  assert abs(np.mean(((logs - logs.mean()) / logs.std()) ** 3)) < 5 * 0.055


@pytest.mark.parametrize('sigma', [0.0, 0.5, 2.0, 1000.0])
@pytest.mark.parametrize('num_examples, num_clients, min_size', [
    (1000, 10, 1), (1000, 10, 100), (1003, 10, 100), (50, 50, 1), (7, 50, 0),
    (1001, 7, 40)])
def test_quantity_sums_exactly(sigma, num_examples, num_clients, min_size):
  for seed in range(5):
    partition = partition_lib.quantity(
        num_examples, num_clients, seed=seed, sigma=sigma, min_size=min_size)
    assert len(partition) == num_clients
    assert_uses_all_once(partition, num_examples)
    assert min(map(len, partition)) >= min_size


def test_quantity_without_spread_is_even():
  sizes = [len(c) for c in partition_lib.quantity(103, 10, seed=0, sigma=0.0)]
  assert sorted(sizes) == [10] * 7 + [11] * 3


def test_apportion_by_hand():
  # Shares of 20 are 10, 6, 4 and 0; the last is raised to 2, and the others
  # divide 18 as 9, 5.4 and 3.6: rounding by largest remainder, 9, 5, 4.
  sizes = _apportion(np.array([5.0, 3.0, 2.0, 0.0]), 20, 2)
  assert sizes.tolist() == [9, 5, 4, 2]

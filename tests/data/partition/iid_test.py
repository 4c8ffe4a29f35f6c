"""Shuffled, and dealt out evenly."""

import numpy as np
import pytest

from fedjax_sim.data import partition as partition_lib
from tests.data.partition.cases import LABELS


@pytest.mark.parametrize('num_examples, num_clients',
                         [(60000, 100), (10, 3), (5, 5), (7, 1)])
def test_iid_sizes_differ_by_at_most_one(num_examples, num_clients):
  sizes = [len(c) for c in partition_lib.iid(num_examples, num_clients, seed=0)]
  low = num_examples // num_clients
  assert len(sizes) == num_clients and sum(sizes) == num_examples
  assert set(sizes) <= {low, low + 1}


def test_iid_takes_labels_or_their_number():
  by_labels = partition_lib.iid(LABELS, 7, seed=2)
  by_number = partition_lib.iid(600, 7, seed=2)
  assert all(map(np.array_equal, by_labels, by_number))


@pytest.mark.parametrize('make', [
    lambda: partition_lib.iid(10000, 10, seed=1),
    lambda: partition_lib.quantity(10000, 10, seed=1, sigma=0.0)])
def test_iid_mixes_the_file(make):
  # A client's mean index has mean 4,999.5 and a standard error of
  # 10000 / sqrt(12 * 1000) = 91; unmixed, the means are 500, 1500, ...
  means = [client.mean() for client in make()]
  assert np.allclose(means, 4999.5, atol=5 * 91)

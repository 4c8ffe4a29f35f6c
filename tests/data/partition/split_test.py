"""Each client's own data, in two parts."""

import fractions
import math

import numpy as np
import pytest

from fedjax_sim.data import partition as partition_lib


def test_split_sizes_against_fractions():
  sizes = range(120)
  partition = [np.arange(n) for n in sizes]
  for percent in range(1, 100):
    train, test = partition_lib.split(partition, percent / 100, seed=0)
    for n, kept, held_out in zip(sizes, train, test, strict=True):
      expected = math.floor(fractions.Fraction(percent, 100) * n)
      assert len(held_out) == (max(expected, 1) if n >= 2 else 0)
      assert len(kept) + len(held_out) == n


def test_split_leaves_something_to_train_on():
  train, test = partition_lib.split([np.arange(10)], 0.99999999, seed=0)
  assert len(train[0]) == 1 and len(test[0]) == 9


@pytest.mark.parametrize('shuffle', [True, False])
def test_split_parts_are_disjoint_and_complete(shuffle):
  partition = partition_lib.quantity(300, 20, seed=0, sigma=1.0)
  parts = partition_lib.split(partition, 0.3, seed=1, shuffle=shuffle)
  for client, train, test in zip(partition, *parts, strict=True):
    assert sorted(np.r_[train, test]) == sorted(client)
    if not shuffle:
      assert np.array_equal(np.r_[train, test], client)


def test_split_draws_each_example_equally_often():
  # Each of 10 is in the test part with chance 0.3: 1,000 draws, +- 0.0145.
  uses = np.zeros(10)
  for seed in range(1000):
    uses[partition_lib.split([np.arange(10)], 0.3, seed=seed)[1][0]] += 1
  assert np.allclose(uses / 1000, 0.3, atol=5 * 0.0145)


def test_split_differs_from_client_to_client():
  train, _ = partition_lib.split([np.arange(100)] * 2, 0.5, seed=0)
  assert not np.array_equal(train[0], train[1])


def test_split_of_nothing():
  train, test = partition_lib.split([np.arange(5)], 0, seed=0)
  assert len(train[0]) == 5 and len(test[0]) == 0

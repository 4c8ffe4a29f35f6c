"""Clients by id."""

import numpy as np
import pytest

from fedjax_sim.data import partition as partition_lib


def test_natural_groups_by_id():
  partition, names = partition_lib.natural(['b', 'a', 'b', 'c', 'a', 'b'])
  assert names == ['a', 'b', 'c']
  assert [c.tolist() for c in partition] == [[1, 4], [0, 2, 5], [3]]
  assert all(c.dtype == np.int64 for c in partition)


@pytest.mark.parametrize('ids, expected', [
    (np.array([10, 2, 10]), ['2', '10']),
    ([b'\xc3\xa9', b'e'], ['e', 'é']),
    (np.array(['x', 'yy', 'x'], object), ['x', 'yy'])])
def test_natural_names_are_strings(ids, expected):
  assert partition_lib.natural(ids)[1] == expected


def test_natural_numbers_do_not_depend_on_the_order_of_examples():
  ids = np.random.default_rng(0).integers(0, 20, 100)
  moved = np.random.default_rng(1).permutation(100)
  partition, names = partition_lib.natural(ids)
  again, names_again = partition_lib.natural(ids[moved])
  assert names == names_again
  for client, other in zip(partition, again, strict=True):
    assert sorted(client) == sorted(moved[other])

"""Shards against a slow reference."""

import numpy as np
import pytest

from fedjax_sim.data import partition as partition_lib
from fedjax_sim.data.partition.shards import _nearest_factors
from tests.data.partition.cases import LABELS, assert_uses_all_once


def reference_shards(labels, num_shards):
  order = sorted(range(len(labels)), key=lambda i: labels[i])
  size = len(labels) // num_shards
  return [tuple(order[i * size:(i + 1) * size]) for i in range(num_shards)]


def test_shards_are_those_of_a_stable_sort():
  partition = partition_lib.shards(LABELS, 10, 3, seed=5)
  dealt = [tuple(piece) for client in partition
           for piece in client.reshape(3, 20).tolist()]
  expected = reference_shards(LABELS.tolist(), 30)
  assert dealt != expected
  assert sorted(dealt) == sorted(expected)


def test_shards_of_the_paper_hold_few_labels():
  # 200 shards of 300 of a balanced set of 60,000: each shard has one label.
  labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 6000))
  partition = partition_lib.shards(labels, 100, 2, seed=0, num_shards=200)
  assert {len(client) for client in partition} == {600}
  assert all(len(set(labels[client])) <= 2 for client in partition)


def test_shards_are_dealt_uniformly():
  # Of 4 shards client 0 gets each pair with chance 1/6: 600 draws, 100 +- 9.1.
  labels = np.arange(4)
  pairs = [tuple(sorted(partition_lib.shards(labels, 2, 2, seed=s)[0]))
           for s in range(600)]
  counts = [pairs.count(pair) for pair in set(pairs)]
  assert len(counts) == 6
  assert np.allclose(counts, 100, atol=5 * 9.1)


def test_shards_take_strings():
  labels = np.array(['b', 'a', 'b', 'a'])
  partition = partition_lib.shards(labels, 2, 1, seed=0)
  assert sorted(c.tolist() for c in partition) == [[0, 2], [1, 3]]


def test_shards_that_do_not_divide_name_what_would():
  # N must divide 60,000 / 2 = 2^4 * 3 * 5^4: 80 and 100 do, nothing between.
  with pytest.raises(ValueError, match='97 .* 2 = 194 must divide') as error:
    partition_lib.shards(np.zeros(60000, int), 97, 2, seed=0)
  message = str(error.value)
  assert '60000' in message
  assert 'num_clients=80, num_clients=100' in message
  # 97 is prime and no factor: no number of shards a client helps.
  assert 'shards_per_client=' not in message
  # 60000 - 60000 % 194.
  assert 'the first 59946 examples' in message


@pytest.mark.parametrize('size, clients, per_client', [
    (60000, 97, 2), (600, 9, 4), (1797, 10, 2), (12, 5, 1), (7, 3, 2)])
def test_suggested_shards_work(size, clients, per_client):
  labels = np.zeros(size, int)
  with pytest.raises(ValueError, match='must divide') as error:
    partition_lib.shards(labels, clients, per_client, seed=0)
  for choice in str(error.value).rstrip('.').split(': ')[1].split(', '):
    kwargs = {'num_clients': clients, 'shards_per_client': per_client}
    used = size
    if choice.startswith('the first'):
      used = int(choice.split()[2])
    else:
      name, value = choice.split('=')
      kwargs[name] = int(value)
    partition = partition_lib.shards(labels[:used], seed=0, **kwargs)
    assert_uses_all_once(partition, used)


def test_nearest_factors_against_trying_all():
  for number in (1, 12, 97, 360):
    for factor in (1, 2, 3, 7):
      valid = [f for f in range(1, number + 1) if number % (factor * f) == 0]
      for wanted in range(1, 40):
        near = ([f for f in valid if f <= wanted][-1:]
                + [f for f in valid if f > wanted][:1])
        assert _nearest_factors(number, factor, wanted) == near


def test_shards_refuses_another_number_of_shards():
  with pytest.raises(ValueError, match=r'num_shards .* 10 \* 2 = 20, got 30'):
    partition_lib.shards(LABELS, 10, 2, seed=0, num_shards=30)

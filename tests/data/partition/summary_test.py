"""What a partition is, and what it looks like."""

import math

import numpy as np
import pytest

from fedjax_sim.data import partition as partition_lib
from tests.data.partition.cases import LABELS


def test_summary_by_hand():
  labels = np.array([7, 7, 9, 9, 5, 5])
  partition = [np.array(c, int) for c in ([0, 1, 2, 3], [4], [])]
  summary = partition_lib.summary(partition, labels)
  # Entropies 1 bit and 0; the empty client has none. Labels 2 and 1.
  assert summary == (3, 5, 0, 5 / 3, 1.0, 4, 0.5, 1.5)
  assert str(summary) == (
      '3 clients, 5 examples, 0 to 4 each (mean 1.7, median 1); 1.5 labels a '
      'client, entropy 0.50 bits')


def test_summary_of_equal_clients_without_labels():
  summary = partition_lib.summary([np.arange(1000), np.arange(1000, 2000)])
  assert summary.label_entropy is None and summary.labels_per_client is None
  assert str(summary) == '2 clients, 2,000 examples, 1,000 each'


def test_entropy_against_a_plain_sum():
  partition = partition_lib.dirichlet(LABELS, 10, 0.5, seed=0)
  expected = []
  for client in partition:
    values = LABELS[client].tolist()
    chances = [values.count(v) / len(values) for v in set(values)]
    expected.append(-sum(p * math.log2(p) for p in chances))
  summary = partition_lib.summary(partition, LABELS)
  assert summary.label_entropy == pytest.approx(np.mean(expected))


def test_entropy_is_not_minus_zero():
  summary = partition_lib.summary([np.array([0])], [3])
  assert 'entropy 0.00 bits' in str(summary)


def test_label_counts_by_hand():
  counts, values = partition_lib.label_counts(
      [np.array([0, 1]), np.array([3])], np.array([4, 8, 8, 6]))
  assert counts.tolist() == [[1, 0, 1], [0, 1, 0]]
  assert values.tolist() == [4, 6, 8]


def ints(*clients):
  return [np.array(c, np.int64) for c in clients]


def test_check_accepts_unused_examples_and_asked_for_empty_clients():
  partition_lib.check(ints([3], [0, 1]), 5)
  partition_lib.check(ints([3], []), 4, allow_empty=True)
  partition_lib.check([np.array([1], np.uint64), np.array([0], np.int8)], 2)


@pytest.mark.parametrize('partition, message', [
    (ints([0], []), 'client 1 is empty'),
    (ints([0], [4, 5]), r'client 1 has index 5, .* \[0, 5\)'),
    (ints([0], [2], [-1]), 'client 2 has index -1'),
    (ints([0, 1], [3], [4, 1]), '1 is used by client 0 and by client 2'),
    (ints([0], [3, 2, 3]), 'example 3 is used twice by client 1'),
    ([np.array([0.0])], r'client 0 must be .* float64 \[1\]'),
    ([np.array([True])], r'client 0 must be .* bool \[1\]'),
    (ints([[0, 1]]), r'client 0 must be .* int64 \[1, 2\]'),
    ([[0, 1]], 'client 0 must be .* a list'),
    ([], 'num_clients must be .*>= 1, got 0'),
    ([np.array([True, False])], r'1-D integer array.*np\.flatnonzero\(mask\)'),
])
def test_check_names_the_client(partition, message):
  with pytest.raises(ValueError, match=message):
    partition_lib.check(partition, 5)

"""Who has which labels."""

import numpy as np
import pytest

from fedjax_sim.data import partition as partition_lib
from tests.data.partition.cases import LABELS


@pytest.mark.parametrize('clients, each', [
    (5, 1), (10, 1), (7, 2), (3, 3), (4, 5), (30, 4)])
def test_labels_and_their_examples_are_dealt_evenly(clients, each):
  for seed in range(5):
    partition = partition_lib.label_sets(LABELS, clients, each, seed=seed)
    counts, _ = partition_lib.label_counts(partition, LABELS)
    assert ((counts > 0).sum(axis=1) == each).all()
    owners = (counts > 0).sum(axis=0)
    assert set(owners) <= {clients * each // 5, -(-clients * each // 5)}
    for label in counts.T:
      assert np.ptp(label[label > 0]) <= 1


def test_which_labels_go_together_is_drawn():
  # Of five labels there are 10 pairs, each as likely for client 0: 600 draws,
  # 60 +- 7.3.
  pairs = [tuple(np.unique(LABELS[partition_lib.label_sets(
      LABELS, 5, 2, seed=seed)[0]])) for seed in range(600)]
  counts = [pairs.count(pair) for pair in set(pairs)]
  assert len(counts) == 10
  assert np.allclose(counts, 60, atol=5 * 7.3)

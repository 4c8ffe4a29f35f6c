"""A way to deal examples of each kind, and what all of them must give."""

import numpy as np

from fedjax_sim.data import partition as partition_lib

LABELS = np.random.default_rng(7).integers(0, 5, 600)

MAKERS = {
    'client_dirichlet': lambda seed: partition_lib.client_dirichlet(
        LABELS, 10, 0.5, seed=seed),
    'dirichlet': lambda seed: partition_lib.dirichlet(
        LABELS, 10, 0.5, seed=seed),
    'iid': lambda seed: partition_lib.iid(600, 7, seed=seed),
    'label_sets': lambda seed: partition_lib.label_sets(
        LABELS, 7, 2, seed=seed),
    'quantity': lambda seed: partition_lib.quantity(
        600, 10, seed=seed, sigma=1.0),
    'shards': lambda seed: partition_lib.shards(LABELS, 10, 3, seed=seed),
}


def assert_uses_all_once(partition, num_examples):
  """Every example once, as int64, independently of `check`."""
  assert all(client.dtype == np.int64 for client in partition)
  flat = [int(i) for client in partition for i in client]
  assert sorted(flat) == list(range(num_examples))

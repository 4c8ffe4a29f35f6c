"""MNIST with a validation set, on which learning rates are chosen."""

import numpy as np

from fedjax_sim import data
from fedjax_sim.data.sets.dataset import Dataset

SIZE = 6_000


def mnist(data_dir: str | None = None) -> Dataset:
  """6,000 of the training digits, the same for all, are the test set.

  The other 54,000 are for training. The real test set is in neither.

  Args:
    data_dir: as in configs/default.py.
  """
  whole = data.load('mnist', data_dir)
  order = np.random.default_rng(0).permutation(len(whole.train['y']))
  held_out, kept = np.sort(order[:SIZE]), np.sort(order[SIZE:])
  part = lambda index: {k: v[index] for k, v in whole.train.items()}
  return whole._replace(train=part(kept), test=part(held_out))

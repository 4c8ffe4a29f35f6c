"""Each client's own data, in two parts."""

import math

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.data.partition.dealing import Partition, rng_of
from fedjax_sim.data.partition.indices import as_partition


def split(
    partition: Partition,
    test_fraction: float,
    *,
    seed: int,
    shuffle: bool = True,
) -> tuple[Partition, Partition]:
  """Splits each client's own data into train and test.

  Of a client's n examples, test gets floor(test_fraction * n), but at least
  one if n >= 2, and never all; a client with a single example keeps it for
  training and has an empty test part. `test_fraction=0` leaves all test parts
  empty.

  The FedAvg paper's Shakespeare is `test_fraction=0.2, shuffle=False`: the
  first 80% of a role's lines are for training, the last 20% "(rounded up to at
  least one line)" for test. That this means floor, and one where it gives
  none, follows from the paper's counts: 19.62% of all characters are test;
  floor gives 19.61%, rounding every role up 20.37%.

  Args:
    partition: N int arrays.
    test_fraction: in [0, 1).
    seed: whole number from 0 to 2**64 - 1; without effect if not `shuffle`.
    shuffle: draw the test examples at random. If False, they are each client's
      last ones, and both parts keep their order.

  Returns:
    (train, test), two partitions of N clients that share no example.

  Raises:
    ValueError: `test_fraction` is outside [0, 1).
  """
  if checks.fraction('test_fraction', test_fraction) == 1:
    raise ValueError(
        f'test_fraction must lie in [0, 1), got {test_fraction!r}: it would '
        'leave nothing to train on.')
  rng = rng_of(seed, 'split')
  train, test = [], []
  for client in as_partition(partition):
    client = np.asarray(client)
    client = rng.permutation(client) if shuffle else client
    cut = len(client) - _test_size(len(client), test_fraction)
    train.append(client[:cut])
    test.append(client[cut:])
  return train, test


def _test_size(size: int, fraction: float) -> int:
  if not fraction or size < 2:
    return 0
  # Rounded first: 0.29 * 100 is 28.999999999999996 in floating point.
  share = math.floor(round(fraction * size, 6))
  return min(max(share, 1), size - 1)

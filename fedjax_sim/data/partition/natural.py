"""The clients that the data come with."""

from typing import Any

import numpy as np

from fedjax_sim.data.partition.dealing import Partition, grouped
from fedjax_sim.data.partition.labels import as_labels


def natural(client_ids: Any) -> tuple[Partition, list[str]]:
  """The partition that comes with the data: a client id for each example.

  Clients are in sorted order of their ids (whole numbers by value, strings by
  code point), not of first appearance: then a client's number, which its
  random draws depend on, is the same however the examples are ordered.

  Args:
    client_ids: [E], whole numbers, strings or bytes (UTF-8).

  Returns:
    (partition, ids): N arrays, each in the order of the file, and N names.

  Raises:
    ValueError: not a non-empty 1-D array of whole numbers, strings or bytes.
  """
  ids, owner, sizes = np.unique(
      as_labels(client_ids, 'client_ids'), return_inverse=True,
      return_counts=True)
  names = [x.decode() if isinstance(x, bytes) else str(x) for x in ids]
  return grouped(owner, sizes), names

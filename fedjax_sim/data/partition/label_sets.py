"""A fixed number of labels a client."""

from typing import Any

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.data.partition.dealing import (
    Partition,
    deal_by_label,
    even_sizes,
    rng_of,
)
from fedjax_sim.data.partition.labels import as_labels


def label_sets(
    labels: Any, num_clients: int, labels_per_client: int, *, seed: int
) -> Partition:
  """Each client has k labels, and of each an equal part of its examples.

  The quantity-based label imbalance "#C = k" of Li, Diao, Chen and He 2022
  (NIID-Bench, arXiv:2102.02079, section IV-A): each client is given k different
  labels, and the examples of a label are divided at random and evenly among the
  clients that have it. There clients draw their labels independently, so that
  a label may belong to nobody; here labels are dealt as evenly as can be, each
  to floor(N k / L) or ceil(N k / L) clients.

  Unlike `shards`, every client has exactly k labels, and k need not divide
  anything.

  Args:
    labels: [E], whole numbers or strings.
    num_clients: N.
    labels_per_client: k, at most L; N * k must be at least L.
    seed: whole number from 0 to 2**64 - 1.

  Returns:
    N arrays that use every example once, each in the order of the file.

  Raises:
    ValueError: an argument is out of range, or a label has fewer examples than
      clients that are to have it.
  """
  labels = as_labels(labels)
  checks.positive_int('num_clients', num_clients)
  checks.positive_int('labels_per_client', labels_per_client)
  values, label_of, totals = np.unique(
      labels, return_inverse=True, return_counts=True)
  _check_counts(len(values), num_clients, labels_per_client)
  rng = rng_of(seed, 'label_sets')
  has = _deal_labels(rng, len(values), num_clients, labels_per_client)
  short = np.flatnonzero(totals < has.sum(axis=0))
  if len(short):
    raise ValueError(
        f'label_sets gives label {values[short[0]]!s} to '
        f'{has[:, short[0]].sum()} clients, but there are only '
        f'{totals[short[0]]} examples of it: lower num_clients '
        f'({num_clients}) or labels_per_client ({labels_per_client}).')
  counts = np.zeros(has.T.shape, np.int64)
  for label, total in enumerate(totals):
    owners = rng.permutation(np.flatnonzero(has[:, label]))
    counts[label, owners] = even_sizes(total, len(owners))
  return deal_by_label(rng, label_of, counts)


def _deal_labels(
    rng: np.random.Generator, num_labels: int, num_clients: int, each: int
) -> np.ndarray:
  """bool [N, L]: `each` labels a client.

  A client takes those that fewest clients have so far, at random among equals:
  so their numbers of owners never differ by more than one.
  """
  has = np.zeros((num_clients, num_labels), bool)
  owners = np.zeros(num_labels, np.int64)
  for i in range(num_clients):
    order = np.lexsort((rng.random(num_labels), owners))
    has[i, order[:each]] = True
    owners += has[i]
  return has


def _check_counts(num_labels: int, num_clients: int, each: int) -> None:
  if each > num_labels:
    raise ValueError(f'labels_per_client must be at most {num_labels}, the '
                     f'number of labels, got {each}.')
  if num_clients * each < num_labels:
    raise ValueError(
        f'num_clients * labels_per_client = {num_clients} * {each} must be at '
        f'least {num_labels}, the number of labels, or some would belong to '
        'nobody.')

"""Each label shared out in Dirichlet proportions."""

from typing import Any

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.data.partition.dealing import (
    Partition,
    check_alpha,
    check_enough,
    deal_by_label,
    rng_of,
)
from fedjax_sim.data.partition.labels import as_labels


def dirichlet(
    labels: Any,
    num_clients: int,
    alpha: float,
    *,
    seed: int,
    min_size: int = 1,
    max_tries: int = 1000,
) -> Partition:
  """Skewed labels: each label is shared out in Dirichlet proportions.

  For each label the clients' shares of its examples are drawn from
  Dir(alpha, ..., alpha), independently of the other labels (Yurochkin et al.
  2019, section 4). A share has mean 1/N and variance
  (1/N)(1 - 1/N) / (N alpha + 1): with a large alpha every client has every
  label, with a small one a label sits with few clients. Client sizes vary too.
  `client_dirichlet` skews labels the other way round: there each client draws
  its proportions of the labels, and all clients have one size.

  The whole draw is repeated until every client has `min_size` examples, so
  the distribution is the one above given that.

  Args:
    labels: [E], whole numbers or strings.
    num_clients: N.
    alpha: concentration, positive.
    seed: whole number from 0 to 2**64 - 1.
    min_size: the fewest examples a client may have; 0 allows empty clients.
    max_tries: how many draws to make before giving up.

  Returns:
    N arrays that use every example once, each in the order of the file.

  Raises:
    ValueError: an argument is out of range, or no draw had the minimum size;
      the message tells the best draw's smallest size and what to change.
  """
  labels = as_labels(labels)
  check_alpha(alpha)
  checks.at_least('min_size', min_size, 0)
  checks.positive_int('max_tries', max_tries)
  check_enough(len(labels), num_clients, min_size)
  rng = rng_of(seed, 'dirichlet')
  _, label_of, totals = np.unique(
      labels, return_inverse=True, return_counts=True)
  best = -1
  for _ in range(max_tries):
    counts = _dirichlet_counts(rng, totals, num_clients, alpha)
    best = max(best, int(counts.sum(axis=0).min()))
    if best >= min_size:
      return deal_by_label(rng, label_of, counts)
  raise ValueError(
      f'dirichlet found no partition with min_size={min_size}: over max_tries='
      f'{max_tries} draws the best had {best} for its smallest client '
      f'(num_clients={num_clients}, alpha={alpha}, {len(labels)} examples). '
      'Raise alpha, or lower num_clients or min_size (0 allows empty clients).')


def _dirichlet_counts(
    rng: np.random.Generator, totals: np.ndarray, num_clients: int,
    alpha: float,
) -> np.ndarray:
  """int64 [L, N]: one draw of how many of each label each client gets."""
  shares = rng.dirichlet(np.full(num_clients, alpha), size=len(totals))
  # The cuts between clients are rounded, not the shares, so each label adds up.
  # One random offset a label makes every client's expected count its share;
  # rounding to nearest would give the first and last clients too little.
  offset = rng.random((len(totals), 1))
  cuts = np.floor(np.cumsum(shares, axis=1) * totals[:, None] + offset)
  cuts = np.minimum(cuts, totals[:, None]).astype(np.int64)
  cuts[:, -1] = totals  # Whatever the shares' sum has been rounded to.
  return np.diff(cuts, axis=1, prepend=0)

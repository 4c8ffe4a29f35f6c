"""Each client's labels drawn in Dirichlet proportions of its own."""

from typing import Any

import numpy as np

from fedjax_sim.data.partition.dealing import (
    Partition,
    check_alpha,
    check_enough,
    deal_by_label,
    even_sizes,
    rng_of,
)
from fedjax_sim.data.partition.labels import as_labels


def client_dirichlet(
    labels: Any, num_clients: int, alpha: float, *, seed: int
) -> Partition:
  """Skewed labels, equal sizes: each client draws a mix of labels.

  Each client draws proportions q of the labels from Dir(alpha * p), where p is
  how frequent each label is among all examples, and then its examples one by
  one: a label from q, and an example of it that no client has yet (Hsu et al.
  2019, arXiv:1909.06335, section 3). A label that has run out is drawn no more;
  q is renormalized over those that are left. Clients take turns, an example
  each, so that what runs out runs out for all of them: one after the other, the
  last ones would get what is left, whatever their q.

  q has mean p and, of label l, variance p_l (1 - p_l) / (alpha + 1): a large
  alpha gives every client the mix of the whole, a small one little but a single
  label. With L labels of equal size this is the symmetric distribution of
  concentration alpha / L. All clients have one size; where sizes should be
  skewed too, take `dirichlet`.

  Args:
    labels: [E], whole numbers or strings.
    num_clients: N, at most E.
    alpha: concentration, positive.
    seed: whole number from 0 to 2**64 - 1.

  Returns:
    N arrays that use every example once, each in the order of the file; their
    sizes differ by at most one.

  Raises:
    ValueError: an argument is out of range.
  """
  labels = as_labels(labels)
  check_alpha(alpha)
  check_enough(len(labels), num_clients, 1)
  rng = rng_of(seed, 'client_dirichlet')
  _, label_of, stock = np.unique(
      labels, return_inverse=True, return_counts=True)
  mixes = rng.dirichlet(alpha * (stock / len(labels)), size=num_clients)
  counts = _draw(rng, mixes, stock, even_sizes(len(labels), num_clients))
  return deal_by_label(rng, label_of, counts.T)


def _draw(
    rng: np.random.Generator, mixes: np.ndarray, stock: np.ndarray,
    sizes: np.ndarray,
) -> np.ndarray:
  """int64 [N, L]: how many of each label each client draws.

  Args:
    rng: for the draws.
    mixes: float [N, L], each client's proportions.
    stock: int64 [L], examples of each label; `sizes` sum to as many.
    sizes: int64 [N], how many examples each client is to have.
  """
  counts, stock = np.zeros(mixes.shape, np.int64), stock.copy()
  chances = _cumulative(mixes, stock)
  for turn in range(sizes.max()):
    waiting = rng.permutation(np.flatnonzero(sizes > turn))
    while len(waiting):
      label = (rng.random((len(waiting), 1)) >= chances[waiting]).sum(axis=1)
      served = _place(label) < stock[label]
      counts[waiting[served], label[served]] += 1
      stock -= np.bincount(label[served], minlength=len(stock))
      if not stock[label].all():
        chances = _cumulative(mixes, stock)
      waiting = waiting[~served]  # Their label has just run out.
  return counts


def _cumulative(mixes: np.ndarray, stock: np.ndarray) -> np.ndarray:
  """[N, L - 1]: of each client the chance of a label up to this one."""
  chances = np.where(stock > 0, mixes, 0.0)
  wants_none = chances.sum(axis=1) == 0  # Of what is left.
  chances[wants_none] = stock
  sums = np.cumsum(chances, axis=1)
  # A label without a chance adds nothing, the last ones to the whole included.
  return sums[:, :-1] / np.maximum(sums[:, -1:], np.finfo(float).tiny)


def _place(labels: np.ndarray) -> np.ndarray:
  """int64 [W]: how many before each one have the same label."""
  order = np.argsort(labels, kind='stable')
  ordered = labels[order]
  places = np.empty(len(labels), np.int64)
  places[order] = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
  return places

"""Graphs and their mixing matrices; NumPy, on the host.

Metropolis weights: W_ij = 1 / (1 + max(d_i, d_j)) for neighbours of d_i and d_j
neighbours, and W_ii = 1 - sum_j W_ij. W is symmetric and doubly stochastic
whatever the graph, and 1 / N everywhere for the complete one. Xiao, Boyd, Kim,
"Distributed Average Consensus with Least-Mean-Square Deviation" (2007), section
5.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Graph(NamedTuple):
  """Who talks to whom.

  Attributes:
    name: for people.
    make: `(N) -> [N, N]`, symmetric: of bools, which clients are neighbours, or
      of floats, the mixing matrix itself.
  """

  name: str
  make: Callable[[int], np.ndarray]


@functools.lru_cache(maxsize=8)
def matrix(graph: Graph, num_clients: int) -> np.ndarray:
  """The graph's weights, float64 [N, N]; for neighbours alone Metropolis'.

  Raises:
    ValueError: the graph can't be made for N clients.
  """
  made = graph.make(num_clients)
  return metropolis(made) if made.dtype == bool else made


def metropolis(neighbours: np.ndarray) -> np.ndarray:
  """float64 [N, N] from bool [N, N]."""
  degrees = neighbours.sum(axis=1)
  larger = np.maximum(degrees[:, None], degrees)
  weights = np.where(neighbours, 1 / (1 + larger), 0.0)
  return weights + np.diag(1 - weights.sum(axis=1))


def links(weights: np.ndarray) -> np.ndarray:
  """bool [N, N], which clients are neighbours in a mixing matrix."""
  return (weights != 0) & ~np.eye(len(weights), dtype=bool)


def spectral_gap(weights: np.ndarray) -> float:
  """1 minus the second largest absolute eigenvalue of a mixing matrix.

  That is the share of the distance from their mean that models lose in a round,
  at least.
  """
  values = np.sort(np.abs(np.linalg.eigvalsh(weights)))
  return float(1 - values[-2]) if len(values) > 1 else 1.0


def is_connected(linked: np.ndarray) -> bool:
  """Whether there is a way from each to each, of bool [N, N]."""
  return bool(reached(linked).all())


def is_two_sided(linked: np.ndarray) -> bool:
  """Whether each link goes from one half of a connected graph to the other.

  Nobody is linked to itself then. Averages only swap what the halves have, so
  the spectral gap is 0, and models never agree.

  Args:
    linked: bool [N, N], symmetric; on the diagonal, who weighs itself.
  """
  steps = linked.astype(np.float32)
  return not is_connected(steps @ steps > 0)


def reached(linked: np.ndarray) -> np.ndarray:
  """bool [N]: to whom there is a way from the first, of bool [N, N]."""
  found = np.zeros(len(linked), bool)
  found[0] = True
  front = found
  while front.any():
    front = linked[front].any(axis=0) & ~found
    found = found | front
  return found

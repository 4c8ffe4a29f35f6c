"""Who talks to whom, where it is not each client to one server."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from fedjax_sim.core.model import PyTree


class Edges(NamedTuple):
  """Servers between the clients and the cloud; each has a model of its own.

  Attributes:
    count: K, how many.
    every: the cloud averages their models in every so many rounds.
    seconds: of simulated time that it takes to do so.
  """

  count: int
  every: int
  seconds: float = 0.0

  def after(self, number: int) -> float:
    """Seconds that the cloud takes at the end of a round, counted from 0."""
    return 0.0 if (number + 1) % self.every else self.seconds


class Gossip(NamedTuple):
  """Clients that average their models with their neighbours in a graph.

  Attributes:
    weights: `(N) -> float64 [N, N]`, the mixing matrix of N clients, on the
      host: symmetric, with rows that add up to one. Two clients are neighbours
      where it is not zero.
    name: of the graph, for people.
  """

  weights: Callable[[int], np.ndarray]
  name: str


class Peer(NamedTuple):
  """The state of a client that gossips.

  Attributes:
    model: PyTree of arrays, its own model.
    round: int32 [], the last round in which it did local work, from 0; -1
      before the first.
  """

  model: PyTree
  round: jax.Array

"""What asynchronous algorithms say, and what they are told.

A server step has the reports of K clients, each of which began with a version
of the model of its own. A report's lag is the number of server steps since.
"""

from typing import NamedTuple

import jax

from fedjax_sim.core.model import PyTree


class Asynchronous(NamedTuple):
  """Of an algorithm that is for asynchronous reports only.

  Attributes:
    name: the algorithm's, for errors.
    reports: K, if it must be a certain number; None for any.
    asks_origin: whether its server is told `Aggregate.origin`.
  """

  name: str
  reports: int | None = None
  asks_origin: bool = False


class Origin(NamedTuple):
  """Where the clients of a server step began: means over those that count.

  Attributes:
    sent: PyTree, what they were sent, without frozen weights.
    lag: float32 [].
  """

  sent: PyTree
  lag: jax.Array

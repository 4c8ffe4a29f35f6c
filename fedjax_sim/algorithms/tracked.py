"""A mean over all clients of what each of them keeps and some change.

Client k keeps x_k, zero until it first takes part. The server wants

    x = sum_k w_k x_k / sum_k w_k        over all N clients, k = 1 .. N

but is told of the cohort's changes only:

    total <- total + sum_{k in S_t} w_k (new x_k - old x_k)
    x = total / (N times the mean weight of the clients seen so far)

With equal weights that is x <- x + |S_t| / N mean_k (new x_k - old x_k), as in
SCAFFOLD and FedDyn. With others it is exact once all clients were seen.

So the server must add up what the clients keep, no more and no less: `check`
refuses aggregators with which x would not be that mean. `error_feedback` fits:
x lacks what clients still have to send, and gets it later. All of it is wide,
see `core/precision.py`: what is rounded each time would add up.
"""

from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import needs
from fedjax_sim.core import precision, trees
from fedjax_sim.core.types import Aggregate, Aggregator, PyTree


class Kept(NamedTuple):
  """A client's part: its x_k, and bool [], whether it has taken part."""

  value: PyTree
  seen: jax.Array


class Tracked(NamedTuple):
  """The server's part.

  Attributes:
    total: PyTree, sum_k w_k x_k.
    weight: float32 [], the sum of weights of the clients seen so far.
    seen: float32 [], how many they are.
    num_clients: float32 [], N.
  """

  total: PyTree
  weight: jax.Array
  seen: jax.Array
  num_clients: jax.Array


def check(
    algorithm: str, aggregator: Aggregator | None, weighting: str
) -> None:
  """ValueError if an aggregator's mean is not the one that `update` needs.

  Args:
    algorithm: its name.
    aggregator: as in `fedavg`.
    weighting: of clients; with 'uniform' their weights may be left out.
  """
  weights = () if weighting == 'uniform' else (needs.Need.WEIGHTS,)
  needs.check(algorithm, aggregator, needs.Need.SUM, needs.Need.COHORT,
              needs.Need.NOTHING_LOST, *weights)


def keep(like: PyTree) -> Kept:
  """A client's part before it has taken part, of the shapes of `like`."""
  return Kept(precision.wide_zeros(like), jnp.array(False))


def track(like: PyTree, num_clients: int) -> Tracked:
  """The server's part before the first round."""
  zero = jnp.zeros((), precision.scalar())
  return Tracked(precision.wide_zeros(like), zero, zero,
                 jnp.asarray(num_clients, precision.scalar()))


def keep_new(
    old: Kept, value: PyTree, weight: jax.Array
) -> tuple[Kept, dict[str, jax.Array]]:
  """A client's new part, and the sums that tell the server who is new."""
  first = jnp.where(old.seen, 0.0, 1.0)
  return Kept(value, jnp.array(True)), {
      'new_weight': first * weight, 'new': first}


def update(
    tracked: Tracked, mean_change: PyTree, aggregate: Aggregate
) -> Tracked:
  """The server's part after a round.

  Args:
    tracked: before it.
    mean_change: the mean over the cohort of new x_k - old x_k.
    aggregate: whose mean that is; with the sums of `keep_new`.
  """
  change = trees.scale_rows(mean_change, aggregate.denominator)
  return tracked._replace(
      total=trees.add(tracked.total, change),
      weight=tracked.weight + aggregate.sums['new_weight'],
      seen=tracked.seen + aggregate.sums['new'])


def mean(tracked: Tracked) -> PyTree:
  """x; zero as long as no client of any weight was seen."""
  weight = tracked.num_clients * tracked.weight
  scale = jnp.where(weight > 0, tracked.seen, 0) / jnp.where(
      weight > 0, weight, 1)
  return jax.tree.map(lambda t: (scale * t).astype(t.dtype), tracked.total)

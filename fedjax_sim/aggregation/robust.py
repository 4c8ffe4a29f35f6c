"""Aggregation that some clients can't lead astray: the median."""

from collections.abc import Callable

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import tally
from fedjax_sim.aggregation.buffered import Stage, buffered
from fedjax_sim.core import precision
from fedjax_sim.core.types import Aggregate, Message, Reducer


def median() -> Reducer:
  """The coordinate-wise median of the updates of those present.

  Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning:
  Towards Optimal Statistical Rates" (2018), algorithm 1, option I. Weights do
  not matter. Of an even number it is the mean of the middle two. A NaN counts
  as an infinity, and the metrics of a client that sends one are left out. With
  nobody present it is zero. It does not fit `top_k` and other transforms that
  select values: of a coordinate that most clients did not send it would be
  zero.
  """
  return buffered(coordinate_median())._replace(name='median()')


def coordinate_median() -> Stage:
  """What `median` is made of, as the last stage of `buffered`."""
  def middle(ordered: jax.Array, count: jax.Array) -> jax.Array:
    low, high = (count - 1) // 2, count // 2
    return 0.5 * (ordered[jnp.maximum(low, 0)] + ordered[high])

  return by_rank('coordinate_median', middle)


def by_rank(
    name: str, of: Callable[[jax.Array, jax.Array], jax.Array]
) -> Stage:
  """A last stage that goes by the order of the values in each coordinate.

  Args:
    name: of the stage.
    of: `(values [M, ...] in ascending order, count int32 []) -> [...]`, of
      which the first `count` are of those present.
  """
  def run(messages: Message, state, broadcast, key):
    del broadcast, key
    counted = tally.add(
        tally.init(jax.tree.map(lambda x: x[0], messages)), messages)

    def reduced(x):
      x = precision.wide(x)
      here = messages.present.reshape(-1, *(1,) * (x.ndim - 1))
      ordered = jnp.sort(jnp.where(here & ~jnp.isnan(x), x, jnp.inf), axis=0)
      value = of(ordered, counted.count)
      return jnp.where(counted.count > 0, value, 0).astype(x.dtype)

    return Aggregate(
        jax.tree.map(reduced, messages.update), counted.weight, counted.weight,
        counted.count, counted.sums), state, {}

  return Stage(name, run, tolerant=True, ranks=True)

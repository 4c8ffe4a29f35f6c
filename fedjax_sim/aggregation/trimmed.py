"""The mean of what is neither among the smallest nor among the largest."""

import math

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.aggregation.buffered import buffered
from fedjax_sim.aggregation.robust import by_rank
from fedjax_sim.core import checks
from fedjax_sim.core.types import Reducer


def trimmed_mean(fraction: float = 0.1) -> Reducer:
  """The coordinate-wise trimmed mean of the updates of those present.

  Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning:
  Towards Optimal Statistical Rates" (2018), algorithm 1, option II. Of n
  clients the floor(fraction n) smallest and as many of the largest values are
  left out, in each coordinate on its own. Weights do not matter. Else it is as
  `median`: a NaN counts as an infinity, with nobody present it is zero, and it
  does not fit transforms that select values.

  Args:
    fraction: beta in [0, 0.5), the share left out at each end. It should be at
      least that of the clients that may send anything. Where it is less than
      1 / n nothing is left out, and the value is the plain mean.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.fraction('fraction', fraction)
  if fraction >= 0.5:
    raise ValueError(
        f'fraction must be below 0.5, since as much is left out at each end, '
        f'got {fraction}; median() leaves out all but the middle.')

  def mean_of_rest(ordered: jax.Array, count: jax.Array) -> jax.Array:
    # In Python's floats: in float32, 0.29 * 100 may be a little below 29.
    left_out = jnp.asarray(np.array([
        _num_left_out(fraction, n) for n in range(len(ordered) + 1)]))[count]
    rank = jnp.arange(len(ordered)).reshape(-1, *(1,) * (ordered.ndim - 1))
    kept = (rank >= left_out) & (rank < count - left_out)
    return jnp.where(kept, ordered, 0).sum(axis=0) / jnp.maximum(
        count - 2 * left_out, 1)

  return buffered(by_rank('trimmed_mean', mean_of_rest))._replace(
      name=f'trimmed_mean({fraction:g})')


def _num_left_out(fraction: float, count: int) -> int:
  """floor(fraction * count), of the decimal number that was meant."""
  return math.floor(round(fraction * count, 9))

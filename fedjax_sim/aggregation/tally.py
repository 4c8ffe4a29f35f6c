"""What every reducer counts beside the update: weights, clients, sums."""

from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.core import precision, trees
from fedjax_sim.core.types import Message, PyTree


class Tally(NamedTuple):
  """Sums over the clients present.

  Attributes:
    weight: float32, of the shape of a message's weight.
    count: int32 [].
    sums: like a message's sums.
  """

  weight: PyTree
  count: jax.Array
  sums: PyTree


def init(message: Message) -> Tally:
  """Zeros for messages of these shapes."""
  return Tally(precision.wide_zeros(message.weight), jnp.int32(0),
               precision.wide_zeros(message.sums))


def add(tally: Tally, messages: Message) -> Tally:
  """Counts a block of messages [W, ...]."""
  weight, sums = sum_present(messages, (messages.weight, messages.sums))
  return trees.add(tally, Tally(
      weight, jnp.sum(messages.present, dtype=jnp.int32), sums))


def sum_present(messages: Message, rows: PyTree) -> PyTree:
  """Sums rows [W, ...], wide, over the lanes that are present."""
  kept = trees.where(
      messages.present, rows, jax.tree.map(jnp.zeros_like, rows))
  return jax.tree.map(
      lambda x: jnp.sum(x, axis=0, dtype=precision.wide_dtype(x.dtype)), kept)

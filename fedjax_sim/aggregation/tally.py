"""What every reducer counts beside the update: weights, clients, aux."""

from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.core import trees
from fedjax_sim.core.types import Message, PyTree


class Tally(NamedTuple):
  """Sums over the clients present.

  Attributes:
    weight: float32, of the shape of a message's weight.
    count: int32 [].
    aux: like a message's aux.
  """

  weight: jax.Array
  count: jax.Array
  aux: PyTree


def init(message: Message) -> Tally:
  """Zeros for messages of these shapes."""
  zeros = lambda tree: jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype), tree)
  return Tally(zeros(message.weight), jnp.int32(0), zeros(message.aux))


def add(tally: Tally, messages: Message) -> Tally:
  """Counts a block of messages [W, ...]."""
  weight, aux = sum_present(messages, (messages.weight, messages.aux))
  return merge(tally, Tally(
      weight, jnp.sum(messages.present, dtype=jnp.int32), aux))


def merge(a: Tally, b: Tally) -> Tally:
  """The tally of both."""
  return jax.tree.map(jnp.add, a, b)


def sum_present(messages: Message, rows: PyTree) -> PyTree:
  """Sums rows [W, ...] over the lanes that are present."""
  zeros = jax.tree.map(jnp.zeros_like, rows)
  kept = trees.where(messages.present, rows, zeros)
  return jax.tree.map(lambda x: jnp.sum(x, axis=0, dtype=x.dtype), kept)

"""Scalars whose means by weight the server wants, beside the mean update.

A client adds them to its message; the server finds

    sum_k weight_k value_k / sum_k weight_k

over the clients whose messages arrive. They go by the transforms of messages,
so they are scalars or short vectors, never of a model's size.
"""

import jax

from fedjax_sim.core import trees
from fedjax_sim.core.types import Aggregate, Message


def add(message: Message, **values: jax.Array) -> Message:
  """A message with these values too; its weight must be float32 []."""
  weighted = {name: message.weight * x for name, x in values.items()}
  return message._replace(sums={**message.sums, **weighted})


def of(aggregate: Aggregate, name: str) -> jax.Array:
  """The mean of one of them; 0 if nobody of any weight was there."""
  return trees.divide_rows(aggregate.sums[name], aggregate.weight)

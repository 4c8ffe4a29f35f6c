"""How many bytes a client receives and sends in a round."""

from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.core import trees
from fedjax_sim.core.types import (
    ClientData,
    FederatedAlgorithm,
    Pool,
    PyTree,
    Variables,
)


class Traffic(NamedTuple):
  """Bytes of one client in one round: what it receives, and what it sends."""

  down: int
  up: int


def per_client(
    algorithm: FederatedAlgorithm, examples: PyTree, variables: Variables
) -> Traffic:
  """Counts what an algorithm's messages hold, uncompressed.

  That is: all that `broadcast` gives; of a message its update, weight and aux,
  as the client makes it, before the aggregator's transforms; and both ways of
  a first exchange (`prepare`). Updates of several stacked models count whole.

  Args:
    algorithm: the algorithm.
    examples: PyTree [E, ...]; only shapes and dtypes matter.
    variables: of the model; likewise.
  """
  one = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), examples)

  def messages(examples, variables, key):
    state = algorithm.init(variables, key, 1)
    down, first = algorithm.broadcast(state), ()
    if algorithm.prepare is not None:
      slot = jnp.zeros(1, jnp.int32)
      first = algorithm.prepare(down, Pool(
          examples, slot, slot + 1, slot == 0, key[None])).mean
      down = down, first
    sent = algorithm.client(
        down, algorithm.client_init(variables),
        ClientData(examples, jnp.int32(0), jnp.int32(1), 1, False), key).message
    return down, (sent.update, sent.weight, sent.aux, first)

  return Traffic(*map(trees.num_bytes, jax.eval_shape(
      messages, one, variables, jax.random.key(0))))

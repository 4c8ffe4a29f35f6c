"""A client's examples in full batches, as FedJAX's `shuffle_repeat_batch`.

The client's examples are repeated, shuffled anew for every pass, and the stream
is cut into batches (`batch_counts`). So none is partial, and a step needs no
mask; `clients.batches` ends every pass with a partial batch instead.
"""

from collections.abc import Callable

import jax
from jax import numpy as jnp

from fedjax_sim.clients import batches
from fedjax_sim.core import loops, random
from fedjax_sim.core.types import ClientData, PyTree
from fedjax_sim.fedjax.batch_counts import Repeat


def for_each_full_batch(
    data: ClientData,
    step: Callable[[PyTree, batches.Batch], PyTree],
    carry: PyTree,
    *,
    key: jax.Array,
    repeat: Repeat,
) -> PyTree:
  """Folds `step` over a client's full batches.

  Args:
    data: the client's data.
    step: `(carry, Batch) -> carry`; the batch's mask is True throughout.
    carry: PyTree of arrays.
    key: the key that orders and steps are drawn from.
    repeat: how many batches, of which size.

  Returns:
    The carry after the last step; unchanged if the client has no examples.
  """
  width = repeat.batch_size
  count = repeat.steps(data.size)
  size = jnp.maximum(data.size, 1)
  rows = _stream(data, random.named(key, 'order'),
                 (count * width + size - 1) // size,
                 max(int(repeat.steps(data.max_size)), 1) * width)
  mask = jnp.ones(width, bool)

  def body(t, carry):
    here = data.offset + jax.lax.dynamic_slice_in_dim(rows, t * width, width)
    return step(carry, batches.Batch(
        here, mask, batches.step_key(key, t), t, data.examples))

  return loops.fori_lanes(count, body, carry, narrow=data.ragged)


def _stream(data: ClientData, key, num_passes, length: int) -> jax.Array:
  """int32 [length + max_size], orders of the client's examples in a row."""
  def write(i, rows):
    order = random.random_order(
        jax.random.fold_in(key, i), data.size, data.max_size)
    # What an order has beyond the client's size is written over by the next.
    return jax.lax.dynamic_update_slice_in_dim(
        rows, order, i * data.size, axis=0)

  return loops.fori_lanes(
      num_passes, write, jnp.zeros(length + data.max_size, jnp.int32),
      narrow=False)

"""A client's examples in batches: random order, the last one partial."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.core import checks, loops, random
from fedjax_sim.core.types import ClientData, PyTree


class Batch(NamedTuple):
  """A batch of a client's own examples.

  Attributes:
    rows: int32 [B], where the examples lie in `source`. Where `mask` is False
      it is the client's first example, so that values are of the kind that
      the model expects; it must not count.
    mask: bool [B], True up to the end of the client's examples, then False.
    key: the key of this step.
    step: int32 [], the number of the step in the client's work.
    source: PyTree [E, ...], the federation's examples.
  """

  rows: jax.Array
  mask: jax.Array
  key: jax.Array
  step: jax.Array
  source: PyTree

  @property
  def examples(self) -> PyTree:
    """The batch's examples, PyTree [B, ...], gathered here."""
    return jax.tree.map(lambda x: x[self.rows], self.source)


def steps_per_epoch(size: jax.Array, batch_size: int | None) -> jax.Array:
  """ceil(size / batch_size); 1 for `None`, the whole local data; 0 if empty."""
  if batch_size is None:
    return jnp.minimum(size, 1)
  return (size + batch_size - 1) // batch_size


def for_each_batch(
    data: ClientData,
    step: Callable[[PyTree, Batch], PyTree],
    carry: PyTree,
    *,
    key: jax.Array,
    batch_size: int | None,
    num_steps: jax.Array | None = None,
    first_step: jax.Array | int = 0,
    by_size: bool | None = None,
    shuffle: bool = True,
) -> PyTree:
  """Folds `step` over a client's batches.

  Steps are numbered through the epochs: step t is batch t % s of epoch
  t // s, s = ceil(size / batch_size). Every epoch has its own random order,
  which depends on key and epoch alone, and ends with a partial batch where
  batch_size does not divide the size, as in McMahan et al. (2016), alg. 1.

  Args:
    data: the client's data.
    step: `(carry, Batch) -> carry`.
    carry: PyTree of arrays.
    key: the key that orders and steps are drawn from.
    batch_size: examples a batch; None is the whole local data (B = infinity).
    num_steps: int32 [], how many steps to do; None is one epoch.
    first_step: int32 [], the number of the first step: work that goes on
      where an earlier call with the same key ended.
    by_size: whether clients with as many examples do as many steps, from the
      same first one; None is True where `num_steps` is None and `first_step`
      a plain number.
    shuffle: False takes the examples in their stored order.

  Returns:
    The carry after the last step; unchanged if the client has no examples.
  """
  if batch_size is not None:
    checks.positive_int('batch_size', batch_size)
  width = min(batch_size or data.max_size, data.max_size)
  if by_size is None:
    by_size = num_steps is None and isinstance(first_step, int)
  in_epoch = steps_per_epoch(data.size, batch_size)
  num_steps = in_epoch if num_steps is None else num_steps
  num_steps = jnp.where(data.size > 0, num_steps, 0)
  divisor = jnp.maximum(in_epoch, 1)
  # Then a step's place in its epoch is the loop's own counter, which all lanes
  # share: a slice that starts alike in all lanes is no gather.
  from_start = isinstance(first_step, int) and first_step == 0
  first_step = jnp.asarray(first_step, jnp.int32)
  end = first_step + num_steps
  first_epoch = first_step // divisor
  num_epochs = jnp.where(num_steps > 0, (end - 1) // divisor - first_epoch + 1,
                         0)
  equal = by_size and data.is_whole
  full = equal and data.max_size % width == 0
  padded_size = -(-data.max_size // width) * width
  order_key = random.named(key, 'order')

  def epoch(i, carry):
    epoch_start = (first_epoch + i) * divisor
    start = jnp.maximum(first_step, epoch_start)
    count = jnp.minimum(end, epoch_start + divisor) - start
    order = jnp.arange(padded_size, dtype=jnp.int32)
    if shuffle and width < data.max_size:
      order = random.random_order(
          jax.random.fold_in(order_key, first_epoch + i), data.size,
          padded_size)

    def batch_step(j, carry):
      t = start + j
      rows = _rows(data, order, j if from_start else t - epoch_start, width,
                   full)
      return step(carry, Batch(*rows, step_key(key, t), t, data.examples))

    return loops.fori_lanes(
        count, batch_step, carry, narrow=data.ragged, equal=equal)

  return loops.fori_lanes(num_epochs, epoch, carry, narrow=False, equal=equal)


def step_key(key: jax.Array, step: jax.Array) -> jax.Array:
  """The key of a local step, from the key given to `for_each_batch`."""
  return jax.random.fold_in(random.named(key, 'step'), step)


def _rows(
    data: ClientData, order: jax.Array, index: jax.Array, width: int,
    full: bool,
) -> tuple[jax.Array, jax.Array]:
  """Rows and mask, [width], of the batch of that index.

  `full` says that no batch is partial: then the mask is a constant, and the
  compiler leaves out whatever only serves it.
  """
  rows = jax.lax.dynamic_slice_in_dim(order, index * width, width)
  if full:
    return data.offset + rows, jnp.ones(width, bool)
  position = index * width + jnp.arange(width, dtype=jnp.int32)
  mask = position < data.size
  return data.offset + jnp.where(mask, rows, 0), mask

"""A model's loss and metrics on a batch, and on all that a client has."""

import jax
from jax import numpy as jnp

from fedjax_sim.clients import batches
from fedjax_sim.core import masks, precision
from fedjax_sim.core.types import (
    ClientData,
    MetricSums,
    Model,
    PyTree,
    Variables,
)


def batch_metrics(
    model: Model, variables: Variables, examples: PyTree, mask: jax.Array
) -> MetricSums:
  """(sum, count) of the loss and the model's metrics over a batch.

  Those of some metrics are arrays, of which `finished` makes numbers. Examples
  that the loss does not count (`Model.counted`) are in no metric either.
  """
  outputs, _ = model.run(
      variables, examples['x'], key=jax.random.key(0), train=False, mask=mask)
  counted = model.counted(examples, mask)
  rows = {'loss': model.example_losses(outputs, examples, mask),
          **masks.call(model.metrics, outputs, examples, counted)}

  def total(x):
    real = counted.reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.sum(jnp.where(real, x, 0), axis=0, dtype=precision.scalar())

  return jax.tree.map(total, rows)


def finished(model: Model, sums: MetricSums) -> MetricSums:
  """Totals as (sum, count) of scalars, also of metrics that add up arrays."""
  finish = getattr(model.metrics, 'finish', {})
  return {name: finish[name](*pair) if name in finish else pair
          for name, pair in sums.items()}


def local_metrics(
    model: Model, variables: Variables, data: ClientData, batch_size: int = 256
) -> MetricSums:
  """`batch_metrics` over all of a client's examples, `batch_size` at once."""
  step = lambda totals, batch: jax.tree.map(
      jnp.add, totals,
      batch_metrics(model, variables, batch.examples, batch.mask))
  example = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype),
      data.examples)
  shapes = jax.eval_shape(
      lambda v, e: batch_metrics(model, v, e, jnp.ones(1, bool)),
      variables, example)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return batches.for_each_batch(
      data, step, zeros, key=jax.random.key(0), batch_size=batch_size,
      shuffle=False)


def local_losses(
    model: Model, variables: Variables, data: ClientData, *, power: int = 1,
    key: jax.Array | None = None, batch_size: int = 256,
) -> jax.Array:
  """float32 [2]: the sum of a client's losses to a power, and their count.

  Args:
    model: the model.
    variables: its variables.
    data: the client's data.
    power: of each example's loss.
    key: draws one batch at random; None takes all examples.
    batch_size: examples at once, or in that batch.
  """
  def step(totals, batch):
    outputs, _ = model.run(
        variables, batch.examples['x'], key=jax.random.key(0), train=False,
        mask=batch.mask)
    losses, real = model.example_losses(outputs, batch.examples, batch.mask)
    return totals + jnp.stack([
        jnp.sum(losses ** power), precision.floats(jnp.sum(real))])

  return batches.for_each_batch(
      data, step, jnp.zeros(2, precision.scalar()),
      key=jax.random.key(0) if key is None else key, batch_size=batch_size,
      num_steps=None if key is None else jnp.int32(1),
      shuffle=key is not None)


def local_loss(
    model: Model, variables: Variables, data: ClientData
) -> jax.Array:
  """float32 []: the mean loss over a client's examples; 0 if it has none."""
  total, count = local_metrics(model, variables, data)['loss']
  return total / jnp.maximum(count, 1)

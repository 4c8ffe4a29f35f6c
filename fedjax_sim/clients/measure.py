"""A model's loss and metrics on a batch, and on all that a client has."""

import jax
from jax import numpy as jnp

from fedjax_sim.clients import batches
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
  """(sum, count) of the loss and the model's metrics over a batch."""
  outputs, _ = model.run(
      variables, examples['x'], key=jax.random.key(0), train=False, mask=mask)
  losses = model.loss(outputs, examples)
  rows = {'loss': (losses, jnp.ones_like(losses)),
          **model.metrics(outputs, examples)}
  return jax.tree.map(
      lambda x: jnp.sum(jnp.where(mask, x, 0), dtype=jnp.float32), rows)


def local_metrics(
    model: Model, variables: Variables, data: ClientData, batch_size: int = 256
) -> MetricSums:
  """MetricSums over all of a client's examples, `batch_size` at once."""
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


def local_loss(
    model: Model, variables: Variables, data: ClientData
) -> jax.Array:
  """float32 []: the mean loss over a client's examples; 0 if it has none."""
  total, count = local_metrics(model, variables, data)['loss']
  return total / jnp.maximum(count, 1)

"""The gradient of a batch's mean loss, in one piece or by micro-batches."""

import functools

import jax
from jax import numpy as jnp

from fedjax_sim.clients import batches
from fedjax_sim.core import loops, random, reuse
from fedjax_sim.core.types import (
    ClientData,
    MetricSums,
    Model,
    PyTree,
    Variables,
)

# Most examples whose gradient is taken at once in a batch of all local data.
MICRO_BATCH_SIZE = 256


def batch_gradient(
    model: Model, variables: Variables, batch: batches.Batch
) -> tuple[PyTree, PyTree, MetricSums]:
  """Gradient of the mean training loss over a batch's real examples.

  Returns:
    (gradient, the new model state, {'loss': (sum, count)}).
  """
  return _mean_gradient(model)(variables, batch)


@reuse.reused(size=16)
def _mean_gradient(model: Model):
  """`batch_gradient` of a model, traced once for several programs.

  Shapes are asked for before anything is compiled, which would trace the model
  and its gradient each time. The program is the same as without.
  """
  def mean_gradient(variables: Variables, batch: batches.Batch):
    def mean_loss(params):
      outputs, state = model.run(
          variables._replace(params=params), batch.examples['x'],
          key=random.named(batch.key, 'model'), train=True, mask=batch.mask)
      total = jnp.sum(_real(batch.mask, model.loss(outputs, batch.examples)))
      count = jnp.sum(batch.mask).astype(total.dtype)
      return total / jnp.maximum(count, 1), (state, {'loss': (total, count)})

    gradient, (state, metrics) = jax.grad(mean_loss, has_aux=True)(
        variables.params)
    return gradient, state, metrics

  return jax.jit(mean_gradient, inline=True)


def large_batch_gradient(
    model: Model,
    variables: Variables,
    batch: batches.Batch,
    micro_batch_size: int,
) -> tuple[PyTree, PyTree, MetricSums]:
  """`batch_gradient`, summed over micro-batches: memory follows their size.

  Equal to the gradient in one piece up to the order of summation: a model
  without state is applied with a key of its own for every example, so that
  not even dropout depends on the size of micro-batches. A model with state
  (BatchNorm) can't be: its statistics are those of each micro-batch in turn.

  Args:
    model: the model.
    variables: where the gradient is taken.
    batch: of any size; its mask is True up to some row, then False.
    micro_batch_size: most examples at once. The batch is cut evenly.

  Returns:
    As `batch_gradient`.
  """
  size = batch.mask.shape[0]
  width = -(-size // -(-size // micro_batch_size))
  padding = (0, -size % width)
  rows, mask = jnp.pad(batch.rows, padding), jnp.pad(batch.mask, padding)
  key = random.named(batch.key, 'model')
  count = jnp.sum(mask)

  def add(i, carry):
    total, state, metrics = carry
    index = i * width + jnp.arange(width, dtype=jnp.int32)
    part = batch._replace(rows=rows[index], mask=mask[index])
    gradient, state, loss = summed_gradient(
        model, variables._replace(model_state=state), part.examples,
        part.mask.astype(jnp.float32), example_keys(key, index),
        jax.random.fold_in(key, i))
    metrics = {'loss': (metrics['loss'][0] + loss, metrics['loss'][1])}
    return jax.tree.map(jnp.add, total, gradient), state, metrics

  start = (jax.tree.map(jnp.zeros_like, variables.params),
           variables.model_state,
           {'loss': (jnp.float32(0), count.astype(jnp.float32))})
  total, state, metrics = loops.fori_lanes(
      (count + width - 1) // width, add, start)
  scale = 1 / jnp.maximum(count, 1)
  return (jax.tree.map(lambda g: (g * scale).astype(g.dtype), total), state,
          metrics)


def local_gradient(
    model: Model,
    variables: Variables,
    data: ClientData,
    key: jax.Array,
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> tuple[PyTree, PyTree, MetricSums]:
  """Gradient of a client's mean loss over all of its examples.

  Args:
    model: the model.
    variables: where the gradient is taken.
    data: the client's data.
    key: for dropout.
    micro_batch_size: most examples at once; see `large_batch_gradient`.

  Returns:
    As `batch_gradient`; of no examples the gradient is zero.
  """
  zero = jnp.float32(0)
  return batches.for_each_batch(
      data,
      lambda _, batch: large_batch_gradient(
          model, variables, batch, micro_batch_size),
      (jax.tree.map(jnp.zeros_like, variables.params), variables.model_state,
       {'loss': (zero, zero)}),
      key=key, batch_size=None)


def example_keys(key: jax.Array, index: jax.Array) -> jax.Array:
  """A key for each example of a batch, by its place in it: [B] of int32 [B]."""
  return jax.vmap(functools.partial(jax.random.fold_in, key))(index)


def summed_gradient(
    model: Model,
    variables: Variables,
    examples: PyTree,
    weights: jax.Array,
    keys: jax.Array,
    batch_key: jax.Array,
) -> tuple[PyTree, PyTree, jax.Array]:
  """Gradient of the weighted sum of the losses of examples.

  Args:
    model: the model.
    variables: where the gradient is taken.
    examples: PyTree [B, ...].
    weights: float32 [B]; an example of weight 0 counts nowhere.
    keys: [B], for a model without state.
    batch_key: for one with state.

  Returns:
    (gradient, the new model state, the plain sum of the losses).
  """
  real = weights != 0

  def weighted_loss(params):
    outputs, state = _apply(
        model, variables._replace(params=params), examples['x'], real,
        keys, batch_key)
    losses = _real(real, model.loss(outputs, examples))
    return jnp.sum(weights * losses), (state, jnp.sum(losses))

  gradient, (state, loss) = jax.grad(weighted_loss, has_aux=True)(
      variables.params)
  return gradient, state, loss


def _apply(model, variables, inputs, mask, keys, batch_key):
  if jax.tree.leaves(variables.model_state):
    return model.run(variables, inputs, key=batch_key, train=True, mask=mask)

  def one(inputs, mask, key):
    outputs, _ = model.run(
        variables, jax.tree.map(lambda x: x[None], inputs), key=key,
        train=True, mask=mask[None])
    return jax.tree.map(lambda x: x[0], outputs)

  return jax.vmap(one)(inputs, mask, keys), variables.model_state


def _real(mask: jax.Array, losses: jax.Array) -> jax.Array:
  return jnp.where(mask, losses, 0.0)

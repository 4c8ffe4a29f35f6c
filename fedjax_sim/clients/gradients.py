"""The gradient of a batch's mean loss, in one piece or by micro-batches."""

import functools

import jax
from jax import numpy as jnp

from fedjax_sim.clients import batches, rows
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

  Those that have nothing to predict (`Model.counted`) are in no mean.

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
      losses, real = model.example_losses(
          outputs, batch.examples, batch.mask)
      total, count = jnp.sum(losses), jnp.sum(real).astype(jnp.float32)
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

  Equal to the gradient in one piece up to the order of summation: a model is
  applied with a key of its own for every example, so that not even dropout
  depends on the size of micro-batches. A model with state (BatchNorm), or one
  whose rows depend on each other, can't be cut: it gets the batch in one piece.

  Args:
    model: the model.
    variables: where the gradient is taken.
    batch: of any size; its mask is True up to some row, then False.
    micro_batch_size: most examples at once. The batch is cut evenly.

  Returns:
    As `batch_gradient`.

  Raises:
    ValueError: a micro-batch size of one's own is too small for a model that
      can't be cut.
  """
  size = batch.mask.shape[0]
  if not rows.are_independent(model, variables, batch.source):
    if micro_batch_size != MICRO_BATCH_SIZE and micro_batch_size < size:
      raise ValueError(
          f'micro_batch_size must be {MICRO_BATCH_SIZE}, its default, or at '
          f'least {size}, a client\'s examples, got {micro_batch_size}: what '
          'the model computes for one example depends on the others, so the '
          'full batch can\'t be cut.')
    return batch_gradient(model, variables, batch)
  width = -(-size // -(-size // micro_batch_size))
  padding = (0, -size % width)
  own, mask = jnp.pad(batch.rows, padding), jnp.pad(batch.mask, padding)
  key = random.named(batch.key, 'model')

  def add(i, carry):
    total, metrics = carry
    index = i * width + jnp.arange(width, dtype=jnp.int32)
    part = batch._replace(rows=own[index], mask=mask[index])
    gradient, loss = summed_gradient(
        model, variables, part.examples, part.mask.astype(jnp.float32),
        example_keys(key, index))
    return jax.tree.map(jnp.add, (total, metrics), (gradient, loss))

  total, (loss, count) = loops.fori_lanes(
      (jnp.sum(mask) + width - 1) // width, add,
      (zero_sums(variables.params), (jnp.float32(0), jnp.float32(0))))
  scale = 1 / jnp.maximum(count, 1)
  return (jax.tree.map(lambda g, p: (g * scale).astype(p.dtype), total,
                       variables.params),
          variables.model_state, {'loss': (loss, count)})


def zero_sums(params: PyTree) -> PyTree:
  """Zeros to add gradients to, in float32 or what is wider."""
  return jax.tree.map(lambda x: jnp.zeros(
      x.shape, jnp.promote_types(x.dtype, jnp.float32)), params)


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
) -> tuple[PyTree, tuple[jax.Array, jax.Array]]:
  """Gradient of the weighted sum of the losses of examples.

  Args:
    model: one whose rows are independent (`rows.are_independent`).
    variables: where the gradient is taken.
    examples: PyTree [B, ...].
    weights: float32 [B]; an example of weight 0 counts nowhere.
    keys: [B].

  Returns:
    (gradient, (the plain sum of the losses, how many count)).
  """
  def one(params, inputs, real, key):
    outputs, _ = model.run(
        variables._replace(params=params),
        jax.tree.map(lambda x: x[None], inputs), key=key, train=True,
        mask=real[None])
    return jax.tree.map(lambda x: x[0], outputs)

  def weighted_loss(params):
    real = weights != 0
    outputs = jax.vmap(one, (None, 0, 0, 0))(params, examples['x'], real, keys)
    losses, real = model.example_losses(outputs, examples, real)
    count = jnp.sum(real).astype(jnp.float32)
    return jnp.sum(weights * losses), (jnp.sum(losses), count)

  return jax.grad(weighted_loss, has_aux=True)(variables.params)

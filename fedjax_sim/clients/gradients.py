"""The gradient of a batch's mean loss, in one piece or by micro-batches."""

import functools

import jax
from jax import numpy as jnp

from fedjax_sim.clients import batches, blame, rows
from fedjax_sim.core import loops, precision, random, reuse
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
      examples = batch.examples
      with blame.training('the model', examples):
        outputs, state = model.run(
            variables._replace(params=params), examples['x'],
            key=random.named(batch.key, 'model'), train=True, mask=batch.mask)
      with blame.training('the loss', examples):
        losses, real = model.example_losses(outputs, examples, batch.mask)
      total, count = jnp.sum(losses), precision.floats(jnp.sum(real))
      return total / jnp.maximum(count, 1), (state, {'loss': (total, count)})

    with blame.training('the gradient of the loss', batch.examples):
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
        model, variables, part.examples, precision.floats(part.mask),
        example_keys(key, index))
    return jax.tree.map(jnp.add, (total, metrics), (gradient, loss))

  total, (loss, count) = loops.fori_lanes(
      (jnp.sum(mask, dtype=jnp.int32) + width - 1) // width, add,
      (precision.wide_zeros(variables.params),
       (jnp.zeros((), precision.scalar()),) * 2))
  scale = 1 / jnp.maximum(count, 1)
  return (jax.tree.map(lambda g: (g * scale).astype(g.dtype), total),
          variables.model_state, {'loss': (loss, count)})


def local_gradient(
    model: Model,
    variables: Variables,
    data: ClientData,
    key: jax.Array,
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> tuple[PyTree, PyTree, MetricSums]:
  """Gradient of a client's mean loss over all of its examples, wide.

  Args:
    model: the model.
    variables: where the gradient is taken.
    data: the client's data.
    key: for dropout.
    micro_batch_size: most examples at once; see `large_batch_gradient`.

  Returns:
    As `batch_gradient`; of no examples the gradient is zero.
  """
  zero = jnp.zeros((), precision.scalar())

  def whole(carry, batch):
    found = large_batch_gradient(model, variables, batch, micro_batch_size)
    return precision.narrow(found, carry)

  return batches.for_each_batch(
      data, whole, (precision.wide_zeros(variables.params),
                    variables.model_state, {'loss': (zero, zero)}),
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
    weights: [B]; an example of weight 0 counts nowhere.
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
    with blame.training('the model', examples):
      outputs = jax.vmap(one, (None, 0, 0, 0))(
          params, examples['x'], real, keys)
    with blame.training('the loss', examples):
      losses, real = model.example_losses(outputs, examples, real)
    count = precision.floats(jnp.sum(real))
    return jnp.sum(weights * losses), (jnp.sum(losses), count)

  with blame.training('the gradient of the loss', examples):
    return jax.grad(weighted_loss, has_aux=True)(variables.params)

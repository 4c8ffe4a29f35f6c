"""A cohort's mean gradient at one model, as one gradient over its examples.

No client ever holds weights or gradients of its own, and clients of unequal
size cost no padding. FedSGD's round is this, and Mime's first exchange.
"""

import jax
from jax import numpy as jnp

from fedjax_sim.clients import batches, gradients
from fedjax_sim.clients.local_sgd import Weighting
from fedjax_sim.core import precision, random, trees
from fedjax_sim.core.types import (
    Aggregate,
    ClientData,
    MetricSums,
    Model,
    Pool,
    Variables,
)


def pooled_gradient(
    model: Model,
    variables: Variables,
    pool: Pool,
    weighting: Weighting,
    micro_batch_size: int,
) -> tuple[Aggregate, MetricSums]:
  """sum_k w_k grad F_k / sum_k w_k over the cohort, and its training loss.

  Args:
    model: one whose rows are independent.
    variables: where all gradients are taken.
    pool: the cohort's examples.
    weighting: w_k of a client.
    micro_batch_size: examples at once, of whichever clients.
  """
  weights = jnp.where(pool.present, jax.vmap(
      lambda size: weighting(
          ClientData(pool.examples, 0, size, 0, True)))(pool.sizes), 0)
  ends = jnp.cumsum(pool.sizes, dtype=jnp.int32)
  total = ends[-1]
  example_weights = weights / jnp.maximum(_numbers_counted(model, pool), 1)
  keys = jax.vmap(lambda key: random.named(
      batches.step_key(key, jnp.int32(0)), 'model'))(pool.keys)

  def add(i, carry):
    place = i * micro_batch_size + jnp.arange(micro_batch_size, dtype=jnp.int32)
    real = place < total
    slot = jnp.where(real, jnp.searchsorted(ends, place, side='right'), 0)
    place_in_slot = jnp.where(real, place - (ends - pool.sizes)[slot], 0)
    rows = pool.offsets[slot] + place_in_slot
    part = gradients.summed_gradient(
        model, variables, jax.tree.map(lambda x: x[rows], pool.examples),
        jnp.where(real, example_weights[slot], 0),
        jax.vmap(jax.random.fold_in)(keys[slot], place_in_slot))
    return jax.tree.map(jnp.add, carry, part)

  gradient, metrics = jax.lax.fori_loop(
      0, (total + micro_batch_size - 1) // micro_batch_size, add,
      (precision.wide_zeros(variables.params),
       (jnp.zeros((), precision.scalar()),) * 2))
  weight = jnp.sum(weights)
  aggregate = Aggregate(
      trees.divide_rows(gradient, weight), weight, weight,
      jnp.sum(pool.present, dtype=jnp.int32), sums={})
  return aggregate, {'loss': metrics}


def _numbers_counted(model: Model, pool: Pool) -> jax.Array:
  """int32 [S], how many examples of each slot have anything to predict."""
  everything = jnp.ones(len(jax.tree.leaves(pool.examples)[0]), bool)
  real = model.counted(pool.examples, everything)
  if real is everything:
    return pool.sizes
  before = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(
      real, dtype=jnp.int32)])
  return before[pool.offsets + pool.sizes] - before[pool.offsets]

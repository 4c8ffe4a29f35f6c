"""Means over the parameter tree: by weight, and over a fixed number."""

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import tally
from fedjax_sim.core import checks, precision, specs, trees
from fedjax_sim.core.types import Aggregate, Message, Reducer


def weighted_mean() -> Reducer:
  """sum_k weight_k update_k / sum_k weight_k over the clients present.

  With weights n_k it is the server's step of McMahan et al. (2016),
  algorithm 1. A running sum: its memory doesn't depend on the cohort. Weights
  of shape [K, ...] give a mean for each of K stacked updates; where all
  weights are zero, the mean is zero.
  """
  def finalize(accumulator, state, broadcast, key):
    del broadcast, key
    total, counted = accumulator
    mean = trees.divide_rows(total, counted.weight)
    return _aggregate(mean, counted.weight, counted), state, {}

  weigh = lambda messages: jax.vmap(trees.scale_rows)(
      messages.update, messages.weight)
  return Reducer(_init, _sum_of(weigh), trees.add, finalize, plain=True,
                 linear=True, name='weighted_mean()', weighs=True)


@specs.traceable('n')
def fixed_mean(n: float) -> Reducer:
  """sum_k update_k / n over the clients present, weights or not.

  The mean that privacy wants: what one client adds is bounded by its norm over
  n, whatever the others; with nobody present it is zero, and still a mean over
  n. Its aggregate's weight is the sum of the messages' weights.

  Args:
    n: positive, such as the expected size of a cohort; may be traced.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.positive('n', n)

  def finalize(accumulator, state, broadcast, key):
    del broadcast, key
    total, counted = accumulator
    mean = jax.tree.map(lambda x: (x / n).astype(x.dtype), total)
    return _aggregate(
        mean, jnp.asarray(n, precision.scalar()), counted), state, {}

  return Reducer(
      _init, _sum_of(lambda messages: messages.update), trees.add, finalize,
      linear=True, name='fixed_mean(n)')


def _init(message: Message, num_slots: int):
  del num_slots
  return precision.wide_zeros(message.update), tally.init(message)


def _sum_of(rows):
  """Adds up `rows(messages)` of a block, and counts."""
  def accumulate(accumulator, messages: Message):
    total, counted = accumulator
    block = tally.sum_present(messages, rows(messages))
    return trees.add(total, block), tally.add(counted, messages)
  return accumulate


def _aggregate(mean, denominator, counted: tally.Tally) -> Aggregate:
  return Aggregate(
      mean, counted.weight, denominator, counted.count, counted.sums)

"""The weighted mean over the parameter tree."""

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import tally
from fedjax_sim.core import trees
from fedjax_sim.core.types import Aggregate, Message, Reducer


def weighted_mean() -> Reducer:
  """sum_k weight_k update_k / sum_k weight_k over the clients present.

  With weights n_k it is the server's step of McMahan et al. (2016),
  algorithm 1. A running sum: its memory doesn't depend on the cohort. Weights
  of shape [K, ...] give a mean for each of K stacked updates; where all
  weights are zero, the mean is zero.
  """

  def init(message: Message, num_slots: int):
    del num_slots
    total = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), message.update)
    return total, tally.init(message)

  def accumulate(accumulator, messages: Message):
    total, counted = accumulator
    weighted = jax.vmap(trees.scale_rows)(messages.update, messages.weight)
    block = tally.sum_present(messages, weighted)
    return (trees.add(total, block), tally.add(counted, messages))

  def finalize(accumulator, key):
    del key
    total, counted = accumulator
    return Aggregate(trees.divide_rows(total, counted.weight), *counted)

  return Reducer(init, accumulate, trees.add, finalize)

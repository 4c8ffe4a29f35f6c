"""Secure aggregation: the server learns a sum of masked integers, no more.

Bonawitz, Ivanov, Kreuter, Marcedone, McMahan, Patel, Ramage, Segal, Seth,
"Practical Secure Aggregation for Privacy-Preserving Machine Learning" (2017),
section 4. In a round with key r and cohort S, client k sends

    m_k = round(scale weight_k update_k)
          + sum_{j in S, j after k} PRG(r, k, j)
          - sum_{j in S, j before k} PRG(r, j, k)              (mod 2^32)

so that the masks cancel in the sum. The numbers of a pair and the round's key
stand in for the key exchange. Which clients do not arrive, or have nothing to
do, is known ahead of a round (`Slot.counts`). These have no masks: their
recovery from shares is not simulated. A client that finds that it can do no
step sends its masks around a zero of weight zero. Weights and sums travel in
the clear.
"""

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.aggregation import tally
from fedjax_sim.aggregation.chain import aggregator
from fedjax_sim.aggregation.encodings import Kind
from fedjax_sim.aggregation.transform import transform
from fedjax_sim.core import checks, costs, precision, trees
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    Keys,
    Message,
    MessageTransform,
    PyTree,
    Reducer,
    Slot,
)


def masked_mean(scale: float = 2.0 ** 16) -> Aggregator:
  """The weighted mean by a sum of masked integers, as a whole aggregator.

  Args:
    scale: integers that one stands for; the mean is exact up to |S| / (2 scale)
      over the sum of weights. So that the sum can't overflow, weight * update
      is clipped to +-2^31 / (scale M) in every coordinate, M the places of a
      cohort. An update that is not finite makes the mean NaN.

  Raises:
    ValueError: when a simulation is built, scale * M is more than 2^31: a
      weight * update of 1 must fit.
  """
  return aggregator(fixed_point(scale), pairwise_masks(), reduce=integer_sum())


def fixed_point(scale: float) -> MessageTransform:
  """weight * update in integers, int32, for `integer_sum`."""
  checks.positive('scale', scale)

  def client(message: Message, state, memory, keys, cohort):
    limit = _limit(scale, len(cohort.place))
    finite = trees.all_finite(message.update)
    weighted = trees.scale_rows(message.update, message.weight)
    encode = lambda u: jnp.clip(
        jnp.round(scale * u), -limit, limit).astype(jnp.int32)
    # Integers hold no NaN: the weight, in the clear, tells the server.
    weight = jax.tree.map(
        lambda w: jnp.where(finite, w, jnp.nan), message.weight)
    update = jax.tree.map(
        lambda u: jnp.where(finite, encode(u), 0), weighted)
    return message._replace(
        update=update, weight=weight, cost=costs.of(update)), memory

  def decode(update: PyTree, state, key, like: PyTree):
    return jax.tree.map(
        lambda u, x: (u.astype(jnp.float32) / scale).astype(
            precision.wide_dtype(x.dtype)),
        update, like)

  def server(aggregate: Aggregate, state, key, cohort):
    mean = trees.divide_rows(aggregate.mean, aggregate.denominator)
    finite = trees.all_finite(aggregate.denominator)
    mean = jax.tree.map(lambda x: jnp.where(finite, x, jnp.nan), mean)
    return aggregate._replace(mean=mean), state, {}

  return transform('fixed_point', client=client, decode=decode, server=server,
                   encodes=(Kind.CODES,))


def _limit(scale: float, places: int) -> np.float32:
  """The largest integer of a client, below 2^31 / places."""
  if scale * places > 2 ** 31:
    raise ValueError(
        'scale of masked_mean must be at most 2^31 / M = '
        f'{2 ** 31 / places:.6g} with M = {places} places in a cohort, so that '
        f'a weight * update of 1 fits int32, got {scale!r}.')
  return np.nextafter(np.float32(2 ** 31 / places), np.float32(0))


def pairwise_masks() -> MessageTransform:
  """Adds to integers the masks that a client shares with every other."""
  def client(message: Message, state, memory, keys: Keys, cohort: Slot):
    if message.group is not None:
      raise ValueError('masked_mean must have one sum in which masks cancel, '
                       'got messages in groups, as those of ifca are.')
    me, together = message.slot.place, cohort.counts
    update, weight, sums = trees.where(
        jnp.asarray(message.present),
        (message.update, message.weight, message.sums),
        trees.zeros((message.update, message.weight, message.sums)))

    def add_mask(other, update):
      low, high = jnp.minimum(me, other), jnp.maximum(me, other)
      sign = jnp.where(together[other], jnp.sign(other - me), 0)
      key = jax.random.fold_in(jax.random.fold_in(keys.round, low), high)
      leaves, treedef = jax.tree.flatten(update)
      return jax.tree.unflatten(treedef, [
          u + sign * _integers(jax.random.fold_in(key, i), u.shape)
          for i, u in enumerate(leaves)])

    update = jax.lax.fori_loop(0, len(cohort.place), add_mask, update)
    return message._replace(update=update, weight=weight, sums=sums,
                            present=message.slot.counts), memory

  return transform('pairwise_masks', client=client)


def integer_sum() -> Reducer:
  """The sum of integers modulo 2^32; decoding has to divide by the weights."""
  def init(message: Message, num_slots: int):
    del num_slots
    return trees.zeros(message.update), tally.init(message)

  def accumulate(accumulator, messages: Message):
    total, counted = accumulator
    return (trees.add(total, tally.sum_present(messages, messages.update)),
            tally.add(counted, messages))

  def finalize(accumulator, state, broadcast, key):
    total, counted = accumulator
    return Aggregate(total, counted.weight, counted.weight, counted.count,
                     counted.sums), state, {}

  return Reducer(init, accumulate, trees.add, finalize, name='masked_mean()',
                 weighs=True)


def _integers(key, shape) -> jax.Array:
  """Uniform over all of int32."""
  return jax.lax.bitcast_convert_type(
      jax.random.bits(key, shape, jnp.uint32), jnp.int32)

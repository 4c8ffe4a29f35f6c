"""Versions of what the server has sent, for clients that began earlier.

Those of the last few server steps lie in a ring [size, ...], as they arrive at
clients: after the downlink, or where clients get a part of them, before it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.core import frozen, precision, trees
from fedjax_sim.core.asynchrony import Origin
from fedjax_sim.core.cohort import Slot
from fedjax_sim.core.model import PyTree


class Versions(NamedTuple):
  """What clients may have begun with.

  Attributes:
    ring: PyTree [size, ...], without frozen weights; that of round r lies at r
      modulo size.
    round: int32 [], of the newest one.
  """

  ring: PyTree
  round: jax.Array

  def of(self, lag: jax.Array) -> PyTree:
    """What was sent so many server steps ago, fewer than there are places."""
    return jax.tree.map(
        lambda x: x[jnp.mod(self.round - lag, len(x))], self.ring)


def empty(message: PyTree, size: int) -> PyTree:
  """A ring for messages of this shape, before the first one."""
  return jax.tree.map(
      lambda x: jnp.zeros((size, *x.shape), x.dtype), frozen.without(message))


def keep(ring: PyTree, message: PyTree, number: jax.Array) -> Versions:
  """The versions with what round `number` has sent, in place of the oldest."""
  return Versions(jax.tree.map(
      lambda old, x: old.at[jnp.mod(number, len(old))].set(x), ring,
      frozen.without(message)), number)


def received(said: PyTree, slot: Slot | None, weights: PyTree) -> PyTree:
  """What a client began with.

  Args:
    said: what the server has said, or `Versions` of it.
    slot: the client's; None for one that begins with the newest version.
    weights: frozen ones, None for none.
  """
  if not isinstance(said, Versions):
    return said
  lag = 0 if slot is None or slot.lag is None else slot.lag
  return frozen.put(said.of(lag), weights)


def origin(
    versions: Versions, slots: Slot, total: Callable[[PyTree], PyTree]
) -> Origin:
  """Where the clients of a server step began.

  Args:
    versions: what they may have begun with.
    slots: Slot [blocks, W], the device's.
    total: adds up over devices.
  """
  slots = jax.tree.map(jnp.ravel, slots)
  like = jax.eval_shape(lambda: Origin(versions.of(0), jnp.float32(0)))

  def add(i, sums):
    one = precision.wide(Origin(
        versions.of(slots.lag[i]), precision.floats(slots.lag[i])))
    return trees.where(slots.counts[i], trees.add(sums, one), sums)

  sums = jax.lax.fori_loop(
      0, len(slots.lag), add, precision.wide_zeros(like))
  sums, count = total((sums, jnp.sum(slots.counts, dtype=jnp.int32)))
  return jax.tree.map(
      lambda x, y: (x / jnp.maximum(count, 1)).astype(y.dtype), sums, like)

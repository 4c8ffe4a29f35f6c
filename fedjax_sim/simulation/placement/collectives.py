"""What the devices of a mesh tell each other inside of a round.

All of it runs inside of `sharding.spread`. A collective costs its latency, some
microseconds between cards and more between machines, whatever it carries up to
some kilobytes. XLA makes one collective of sums of one dtype that wait for each
other's operands alone, so what a round adds up travels as float32: the model,
and with it metrics, counts and flags.
"""

from collections.abc import Callable

import jax
from jax import numpy as jnp

from fedjax_sim.core import trees
from fedjax_sim.core.types import PyTree
from fedjax_sim.simulation.placement.sharding import AXIS

# Integers that travel as pairs of float32, by their number; more than these
# are cheaper in a collective of their own than at twice the bytes.
_FEW = 2 ** 14
# The halves of so many devices' integers add up to less than 2**24, exactly.
_MOST_DEVICES = 2 ** 8


def total(tree: PyTree) -> PyTree:
  """The sum over devices, leaf by leaf; of bools int32, how many are True.

  Integers are added up exactly, and wrap around as they do elsewhere.
  """
  leaves, treedef = jax.tree.flatten(tree)
  leaves = [jnp.asarray(x) for x in leaves]
  sums = jax.lax.psum([_packed(x) for x in leaves], AXIS)
  return treedef.unflatten(
      [_unpacked(s, x) for s, x in zip(sums, leaves, strict=True)])


def by_device(tree: PyTree) -> PyTree:
  """Arrays [...] as [D, ...]: zeros but in this device's row.

  Their `total` is every device's array, on all of them.
  """
  def place(x):
    rows = jnp.zeros((jax.lax.axis_size(AXIS), *x.shape), x.dtype)
    return rows.at[jax.lax.axis_index(AXIS)].set(x)
  return jax.tree.map(place, tree)


def merge(
    tree: PyTree, merge_two: Callable[[PyTree, PyTree], PyTree]
) -> PyTree:
  """All devices' trees merged two by two, in the order of the devices.

  Where merging is adding (`trees.add`) `total` does it, which sends a tree
  about twice whatever the number of devices. Else every device receives all
  trees.
  """
  if merge_two is trees.add:
    return total(tree)
  gathered = jax.lax.all_gather(tree, AXIS)
  parts = [jax.tree.map(lambda x, i=i: x[i], gathered)
           for i in range(jax.lax.axis_size(AXIS))]
  merged = parts[0]
  for part in parts[1:]:
    merged = merge_two(merged, part)
  return merged


def gathered(tree: PyTree, axis: int) -> PyTree:
  """Each device's part of `axis`, on all devices: the whole array."""
  return jax.tree.map(
      lambda x: jax.lax.all_gather(x, AXIS, axis=axis, tiled=True), tree)


def _goes_in_halves(x: jax.Array) -> bool:
  return bool(jnp.issubdtype(x.dtype, jnp.integer)
              and x.dtype.itemsize <= 4 and x.size <= _FEW
              and jax.lax.axis_size(AXIS) <= _MOST_DEVICES)


def _packed(x: jax.Array) -> jax.Array:
  """As it travels: integers [...] as float32 [2, ...], 16 bits in each."""
  if x.dtype == bool:
    return x.astype(jnp.float32)
  if not _goes_in_halves(x):
    return x
  x = x.astype(jnp.int32)
  return jnp.stack([x >> 16, x & 0xFFFF]).astype(jnp.float32)


def _unpacked(packed: jax.Array, like: jax.Array) -> jax.Array:
  """A sum of what `_packed` has made of arrays like `like`."""
  if like.dtype == bool:
    return packed.astype(jnp.int32)
  if not _goes_in_halves(like):
    return packed
  upper, lower = packed.astype(jnp.int32)
  return ((upper << 16) + lower).astype(like.dtype)

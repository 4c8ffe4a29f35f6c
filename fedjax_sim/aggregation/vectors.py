"""The floats of an update as flat vectors, and back."""

import itertools

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core import checks, costs, trees
from fedjax_sim.core.types import Message, PyTree

OVER = ('leaf', 'vector')


def check_over(over: str) -> None:
  """ValueError unless it is a way to make vectors of leaves."""
  checks.one_of('over', over, OVER)


def floats(tree: PyTree, update: PyTree) -> list:
  """The leaves of `tree` where `update` has floats, and any.

  Args:
    tree: of the structure of `update`.
    update: arrays or their shapes.
  """
  return [x for x, like in zip(
      jax.tree.leaves(tree), jax.tree.leaves(update), strict=True)
          if _is_float(like)]


def put_floats(tree: PyTree, new: list, update: PyTree) -> PyTree:
  """`tree` with other leaves where `update` has floats, and any."""
  leaves, treedef = jax.tree.flatten(tree)
  rest = iter(new)
  return jax.tree.unflatten(treedef, [
      next(rest) if _is_float(like) else x
      for x, like in zip(leaves, jax.tree.leaves(update), strict=True)])


def of(update: PyTree, over: str) -> list[jax.Array]:
  """The floats, a vector for each leaf, or all in one; none is empty."""
  flat = [x.ravel() for x in floats(update, update)]
  if over == 'vector' and flat:
    return [jnp.concatenate(flat)]
  return flat


def sizes(update: PyTree, over: str) -> list[int]:
  """How long the vectors of `of` are, of an update or of its shapes."""
  each = [x.size for x in floats(update, update)]
  return [sum(each)] if over == 'vector' and each else each


def put(tree: PyTree, new: list[jax.Array], over: str, like: PyTree) -> PyTree:
  """`tree` with the floats of these vectors.

  Args:
    tree: of the structure of `like`, for what is not a float.
    new: vectors [n], as `of(like, over)` makes them.
    over: 'leaf' or 'vector'.
    like: an update, or its shapes.
  """
  likes = floats(like, like)
  if over == 'vector' and likes:
    ends = np.cumsum([x.size for x in likes])
    new = [new[0][start:end] for start, end in itertools.pairwise((0, *ends))]
  return put_floats(tree, [
      x.reshape(y.shape) for x, y in zip(new, likes, strict=True)], like)


def sent_of(message: Message, over: str) -> list[jax.Array] | None:
  """`Message.sent` for each value of the vectors; None for all."""
  if message.sent is None:
    return None
  entries = trees.map_prefix(
      lambda mask, x: jnp.broadcast_to(
          mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x.shape),
      message.sent, message.update)
  flat = [x.ravel() for x in floats(entries, message.update)]
  return [jnp.concatenate(flat)] if over == 'vector' and flat else flat


def coded_cost(
    message: Message, bits: list[float | jax.Array],
    extra: list[float | jax.Array],
) -> costs.Cost | None:
  """A message's cost after its vectors were coded.

  The bits of one vector of all leaves stand at the first one.

  Args:
    message: before.
    bits: of each vector's values, instead of those before.
    extra: of what goes along with them, beside what did before.
  """
  if message.cost is None:
    return None
  before = floats(message.cost.extra, message.update)
  bits, extra = ([*x, *[0] * (len(before) - len(x))] for x in (bits, extra))
  return costs.Cost(
      put_floats(message.cost.values, bits, message.update),
      put_floats(message.cost.extra, [
          x + more for x, more in zip(before, extra, strict=True)],
                 message.update))


def check_all_sent(name: str, message: Message) -> None:
  """ValueError if only some values travel, which a mixture would undo."""
  if message.sent is not None:
    raise ValueError(
        f'{name} must be given all values of an update, since it mixes them, '
        'got one of which some are not sent.')


def _is_float(x) -> bool:
  return jnp.issubdtype(x.dtype, jnp.floating) and x.size > 0

"""Exactly k entries of an update: which they are, and a message of them."""

from collections.abc import Callable

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.aggregation import vectors
from fedjax_sim.core import checks, costs, precision
from fedjax_sim.core.types import Message


def number_of(
    name: str, fraction: float | None, k: int | None
) -> Callable[[int], int]:
  """`d -> k`, how many of d entries travel.

  Args:
    name: of the transform, for errors.
    fraction: of d, rounded, at least one entry.
    k: the number itself, instead.

  Raises:
    ValueError: not one of the two is given, or it is out of range.
  """
  if (fraction is None) == (k is None):
    raise ValueError(f'{name} must be given a fraction or k, such as '
                     f'{name}(0.01) or {name}(k=100), got '
                     f'fraction={fraction!r} and k={k!r}.')
  if k is None:
    checks.share('fraction', fraction)
    return lambda d: max(round(fraction * d), 1)
  checks.positive_int('k', k)

  def number(d: int) -> int:
    if k > d:
      raise ValueError(f'k of {name} must be at most the number of entries, '
                       f'{d}, got {k}.')
    return k
  return number


def by_magnitude(x: jax.Array) -> jax.Array:
  """Unsigned integers in the order of absolute values; a NaN is the largest."""
  x = jnp.abs(precision.wide(x))
  return jax.lax.bitcast_convert_type(x, f'uint{8 * x.dtype.itemsize}')


def at_random(leaves: list[jax.Array], key: jax.Array) -> list[jax.Array]:
  """Random unsigned integers for all entries."""
  return [jax.random.bits(jax.random.fold_in(key, i), x.shape, jnp.uint32)
          for i, x in enumerate(leaves)]


def largest_of(
    leaves: list[jax.Array], number: Callable[[int], int], over: str
) -> tuple[list[jax.Array], list[float]]:
  """Masks of the largest, and d / k of each leaf.

  Args:
    leaves: unsigned integers to choose by.
    number: `d -> k`.
    over: 'leaf' chooses in each leaf, 'vector' among all entries together.
  """
  if over == 'leaf':
    numbers = [number(x.size) for x in leaves]
    return ([largest([x], k)[0] for x, k in zip(leaves, numbers, strict=True)],
            [x.size / k for x, k in zip(leaves, numbers, strict=True)])
  size = sum(x.size for x in leaves)
  k = number(size)
  return largest(leaves, k), [size / k] * len(leaves)


def selected(
    message: Message, masks: list[jax.Array], scales: list[float],
    extra: list[float | jax.Array],
) -> Message:
  """The message of which only some entries travel.

  A value that is not finite is seen by the server whether it travels or not.

  Args:
    message: before.
    masks: bool, for each floating leaf.
    scales: what its entries are multiplied by.
    extra: bits that say which they are.
  """
  def kept(x, mask, scale):
    x = x if scale == 1 else (scale * precision.wide(x)).astype(x.dtype)
    return jnp.where(mask | ~jnp.isfinite(x), x, 0)

  update, before = message.update, vectors.sent_of(message, 'leaf')
  leaves = vectors.floats(update, update)
  if before is not None:
    masks = [m & b.reshape(m.shape) for m, b in zip(masks, before, strict=True)]
  new = vectors.put_floats(
      update, list(map(kept, leaves, masks, scales)), update)
  everything = jax.tree.map(lambda x: jnp.ones(x.shape, bool), update)
  sent = vectors.put_floats(everything, masks, update)
  cost = message.cost
  if cost is not None:
    more = [a + b for a, b in zip(
        vectors.floats(cost.extra, update), extra, strict=True)]
    cost = costs.Cost(costs.of(new, sent).values,
                      vectors.put_floats(cost.extra, more, update))
  return message._replace(update=new, sent=sent, cost=cost)


def largest(leaves: list[jax.Array], k: int) -> list[jax.Array]:
  """bool, True at the k largest of all; of equal ones at the first.

  The k-th largest is found bit by bit. That takes as many passes as a number
  has bits, whatever k is; a sort takes longer, and so does `jax.lax.top_k`.

  Args:
    leaves: unsigned integers of one dtype.
    k: from 1 to the number of entries.
  """
  if not leaves:
    return []
  dtype = jnp.result_type(*leaves)
  leaves = [x.astype(dtype) for x in leaves]
  top = 8 * np.dtype(dtype).itemsize - 1
  count = lambda masks: sum(jnp.sum(m, dtype=jnp.int32) for m in masks)

  def add_bit(i, threshold):
    higher = threshold | jnp.ones((), dtype) << (top - i).astype(dtype)
    enough = count([x >= higher for x in leaves]) >= k
    return jnp.where(enough, higher, threshold)

  threshold = jax.lax.fori_loop(0, top + 1, add_bit, jnp.zeros((), dtype))
  missing = k - count([x > threshold for x in leaves])
  chosen = []
  for x in leaves:
    equal = x == threshold
    order = jnp.cumsum(equal.ravel(), dtype=jnp.int32).reshape(x.shape)
    chosen.append((x > threshold) | (equal & (order <= missing)))
    missing -= jnp.sum(equal, dtype=jnp.int32)
  return chosen

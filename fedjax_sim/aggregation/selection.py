"""Exactly k entries of an update: which they are, and a message of them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import vectors
from fedjax_sim.core import checks, coders, precision
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


class Selected(NamedTuple):
  """Which entries of a vector, of `vectors.of`, travel.

  Attributes:
    mask: bool [n].
    count: how many they are.
    scale: what they are multiplied by.
    extra: bits that say which they are.
  """

  mask: jax.Array
  count: int
  scale: float
  extra: float | jax.Array


def message_of(
    message: Message, chosen: list[Selected], over: str
) -> Message:
  """The message of which only some entries travel.

  A value that is not finite is seen by the server whether it travels or not.
  What a restriction of training has left out does not travel in any case.

  Args:
    message: before.
    chosen: of each of its vectors.
    over: 'leaf' or 'vector'; then the bits stand at the first leaf.
  """
  given, before = vectors.of(message.update, over), vectors.sent_of(
      message, over)
  masks = [one.mask if before is None else one.mask & before[i]
           for i, one in enumerate(chosen)]
  kept = [_kept(x, mask, one.scale)
          for x, mask, one in zip(given, masks, chosen, strict=True)]
  update = precision.narrow(
      vectors.put(message.update, kept, over, message.update), message.update)
  everything = jax.tree.map(lambda x: jnp.ones(x.shape, bool), update)
  sent = vectors.put(everything, masks, over, message.update)
  bits = [x.dtype.itemsize * 8 * (one.count if before is None else coders.total(
      mask)) for x, mask, one in zip(given, masks, chosen, strict=True)]
  return message._replace(update=update, sent=sent, cost=vectors.coded_cost(
      message, bits, [one.extra for one in chosen]))


def _kept(x: jax.Array, mask: jax.Array, scale: float) -> jax.Array:
  if scale != 1:
    x = (scale * precision.wide(x)).astype(x.dtype)
  return jnp.where(mask | ~jnp.isfinite(x), x, 0)

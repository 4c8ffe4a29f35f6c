"""How much a client does in a round: local epochs, or steps, or a part of it.

The number of local steps is a function of the client's size, drawn anew for
every client and round where clients straggle: Li et al., "Federated
Optimization in Heterogeneous Networks" (2020), section 5.2, where stragglers
are not dropped but send what they got done.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.clients import batches
from fedjax_sim.core import checks, random

# Steps are counted in int32.
_MOST_STEPS = 2 ** 31 - 1


class Work(NamedTuple):
  """Local steps of a client in a round.

  Attributes:
    num_steps: `(size int32 [], key) -> int32 []`, at least 1 for a client that
      has examples.
    planned: int [M] sizes -> int [M], the same in NumPy, for planning; where
      steps are drawn, the most that can be drawn. With the whole data in a
      step it is the examples that are read, a measure that does as well; its
      `counts_steps` tells. It raises a ValueError where a client would have
      more steps than int32 holds.
    in_pass: int [M] sizes -> int [M], what a pass over all of a client's
      examples is in that measure.
    by_size: whether clients with as many examples do as many steps.
  """

  num_steps: Callable[[jax.Array, jax.Array], jax.Array]
  planned: Callable[[np.ndarray], np.ndarray]
  in_pass: Callable[[np.ndarray], np.ndarray]
  by_size: bool


def local_work(
    *,
    epochs: float = 1,
    steps: int | None = None,
    batch_size: int | None = 10,
    stragglers: float = 0.0,
) -> Work:
  """Builds the work of a round.

  Args:
    epochs: local epochs E; a fraction of an epoch is rounded up to steps,
      exactly: 0.3 of 100 batches is 30 steps.
    steps: local steps, the same for all clients whatever their size, instead
      of epochs; None for epochs.
    batch_size: B; None is the whole local data.
    stragglers: the probability that a client, in a round, does a part of its
      steps only, uniform from one to all of them.

  Raises:
    ValueError: an argument is out of range.
  """
  if batch_size is not None:
    checks.positive_int('batch_size', batch_size)
  checks.positive('epochs', epochs)
  if steps is not None:
    checks.positive_int('steps', steps)
    if not checks.is_traced(epochs) and epochs != 1:
      raise ValueError(
          'steps and epochs both say how much a client does, so leave one of '
          f'them out, got steps={steps} and epochs={epochs}.')
  checks.fraction('stragglers', stragglers)

  def all_steps(size):
    if steps is not None:
      return jnp.where(size > 0, steps, 0)
    return exact_product(epochs, batches.steps_per_epoch(size, batch_size))

  def num_steps(size, key):
    most = all_steps(size)
    if not checks.is_traced(stragglers) and not stragglers:
      return most
    late_key, part_key = jax.random.split(random.named(key, 'work'))
    part = jax.random.randint(part_key, (), 1, jnp.maximum(most, 1) + 1)
    late = jax.random.bernoulli(late_key, stragglers)
    return jnp.where(late, jnp.minimum(part, most), most)

  def in_pass(sizes):
    sizes = np.asarray(sizes, np.int64)
    return sizes if batch_size is None else -(-sizes // batch_size)

  def planned(sizes):
    sizes = np.asarray(sizes, np.int64)
    in_epoch = np.minimum(sizes, 1) if batch_size is None else in_pass(sizes)
    if steps is not None:
      count = np.where(sizes > 0, steps, 0)
    else:
      _check_count(epochs, int(np.max(in_epoch, initial=1)))
      count = exact_product(epochs, in_epoch)
    return count * sizes if batch_size is None else count

  planned.counts_steps = batch_size is not None
  drawn = checks.is_traced(stragglers) or stragglers > 0
  return Work(num_steps, planned, in_pass, not drawn)


def exact_product(number: float, count):
  """ceil(number * count), of the number as it is written in decimals.

  In binary 0.3 * 100 is a little more than 30, or in float32 30.000002. So it
  is computed from the last digit on, by ceil((d + x) / 10) =
  ceil((d + ceil(x)) / 10) for whole d, in the integers of `count`.

  Args:
    number: at least 0, finite.
    count: int [...], NumPy or JAX, traced or not; ten times it must fit.
  """
  whole, digits = _digits(number)
  if not digits:
    return whole * count
  rest = 0
  for digit in reversed(digits):
    rest = (digit * count + rest + 9) // 10
  return whole * count + rest


def _digits(number: float) -> tuple[int, list[int]]:
  """The whole part, and the decimals that follow it."""
  text = format(Decimal(str(number)), 'f')
  whole, _, decimals = text.partition('.')
  return int(whole), [int(x) for x in decimals.rstrip('0')]


def _check_count(epochs: float, in_epoch: int) -> None:
  if Decimal(str(epochs)) * in_epoch > _MOST_STEPS:
    raise ValueError(
        f'epochs must make at most 2^31 - 1 local steps of a client, got '
        f'{epochs!r} with {in_epoch} steps in an epoch.')

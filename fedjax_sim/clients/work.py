"""How much a client does in a round: local epochs, or steps, or a part of it.

The number of local steps is a function of the client's size, drawn anew for
every client and round where clients straggle: Li et al., "Federated
Optimization in Heterogeneous Networks" (2020), section 5.2, where stragglers
are not dropped but send what they got done.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.clients import batches
from fedjax_sim.core import checks, random


class Work(NamedTuple):
  """Local steps of a client in a round.

  Attributes:
    num_steps: `(size int32 [], key) -> int32 []`, at least 1 for a client that
      has examples.
    planned: int [M] sizes -> int [M], the same in NumPy, for planning; where
      steps are drawn, the most that can be drawn. With the whole data in a
      step it is the examples that are read, a measure that does as well.
    by_size: whether clients with as many examples do as many steps.
  """

  num_steps: Callable[[jax.Array, jax.Array], jax.Array]
  planned: Callable[[np.ndarray], np.ndarray]
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
    epochs: local epochs E; a fraction of an epoch is rounded up to steps.
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
  checks.fraction('stragglers', stragglers)

  def all_steps(size):
    in_epoch = batches.steps_per_epoch(size, batch_size)
    if steps is not None:
      return jnp.where(size > 0, steps, 0)
    if float(epochs).is_integer():
      return int(epochs) * in_epoch
    return jnp.ceil(epochs * in_epoch).astype(jnp.int32)

  def num_steps(size, key):
    most = all_steps(size)
    if not checks.is_traced(stragglers) and not stragglers:
      return most
    late_key, part_key = jax.random.split(random.named(key, 'work'))
    part = jax.random.randint(part_key, (), 1, jnp.maximum(most, 1) + 1)
    late = jax.random.bernoulli(late_key, stragglers)
    return jnp.where(late, jnp.minimum(part, most), most)

  def planned(sizes):
    in_epoch = sizes if batch_size is None else -(-sizes // batch_size)
    if steps is not None:
      width = sizes if batch_size is None else 1
      return np.where(sizes > 0, steps * width, 0)
    return np.ceil(epochs * in_epoch).astype(np.int64)

  drawn = checks.is_traced(stragglers) or stragglers > 0
  return Work(num_steps, planned, not drawn)

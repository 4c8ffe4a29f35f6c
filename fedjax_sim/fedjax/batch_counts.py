"""How many full batches a client takes, on the host and on the device."""

from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core import checks


class Repeat(NamedTuple):
  """Full batches of examples that are gone through again and again.

  A batch may hold the end of one pass and the beginning of the next, so the
  last batch is full too: it reaches into a pass more.

  Attributes:
    batch_size: B.
    num_epochs: passes over n examples: ceil(n * num_epochs / B) batches. None
      where `num_steps` alone counts.
    num_steps: the number of batches; with `num_epochs` at most so many.
    drop_remainder: whether floor takes the place of ceil.
  """

  batch_size: int
  num_epochs: int | None = 1
  num_steps: int | None = None
  drop_remainder: bool = False

  def check(self) -> 'Repeat':
    """Itself, or ValueError if a number is wrong or none says when to stop."""
    checks.positive_int('batch_size', self.batch_size)
    for name in ('num_epochs', 'num_steps'):
      if getattr(self, name) is not None:
        checks.positive_int(name, getattr(self, name))
    if self.num_epochs is None and self.num_steps is None:
      raise ValueError(
          'num_epochs or num_steps must be a number, got None for both.')
    return self

  def steps(self, size):
    """Batches of clients with so many examples: int of int, any shape.

    0 without examples. For a traced size it is traced, else it is not.

    Raises:
      ValueError: known sizes times epochs are more than int32 holds.
    """
    if self.num_epochs is None:
      return (size > 0) * self.num_steps
    if not isinstance(size, jax.Array):
      size = np.asarray(size, np.int64)
      if np.max(size, initial=0) * self.num_epochs >= 2 ** 31:
        raise ValueError(
            'num_epochs must make at most 2^31 - 1 examples of a client, got '
            f'{self.num_epochs!r} of {np.max(size)} examples.')
    total = size * self.num_epochs
    if self.drop_remainder:
      steps = total // self.batch_size
    else:
      steps = -(-total // self.batch_size)
    if self.num_steps is None:
      return steps
    minimum = jnp.minimum if isinstance(size, jax.Array) else np.minimum
    return minimum(steps, self.num_steps)

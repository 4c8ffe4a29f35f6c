"""Errors of users' functions, named where a client's step is traced.

That is when a simulation is built, so that no run begins with a model that can
not be trained.
"""

import contextlib
from collections.abc import Iterator

import jax

from fedjax_sim.core.types import PyTree


class TrainingError(ValueError):
  """A function of the model fails on a batch; says which, and on what."""


@contextlib.contextmanager
def training(what: str, examples: PyTree) -> Iterator[None]:
  """Makes any exception within a ValueError that says what failed.

  Args:
    what: such as 'the loss'.
    examples: PyTree [B, ...], a batch of training examples.
  """
  try:
    yield
  except TrainingError:
    raise
  except Exception as error:
    shapes = jax.tree.map(
        lambda x: f'{x.dtype}[{",".join(map(str, x.shape))}]', examples)
    given = ', '.join(f'{name}={shape}' for name, shape in shapes.items())
    # JAX adds a remark about its traceback.
    text = ' '.join(str(error).partition('\n-----')[0].split())
    raise TrainingError(
        f'{what} fails on a batch of training examples {given}: '
        f'{type(error).__name__}: {text}') from error

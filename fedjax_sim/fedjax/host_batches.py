"""A client's examples as batches on the host, for `for_each_client`.

They are those of FedJAX 0.0.17's `ClientDataset`, also in their order.
"""

from collections.abc import Iterator

import jax
import numpy as np

from fedjax_sim.core import checks, random
from fedjax_sim.core.types import PyTree
from fedjax_sim.data.federated import num_examples
from fedjax_sim.fedjax.batch_counts import Repeat

# Names the bool array [B] in a padded batch, False in rows that don't count.
MASK = '__mask__'


def shuffle_repeat_batch(
    examples: PyTree,
    *,
    batch_size: int,
    num_epochs: int | None = 1,
    num_steps: int | None = None,
    drop_remainder: bool = False,
    seed: int | None = None,
    skip_shuffle: bool = False,
) -> Iterator[PyTree]:
  """Full batches of the shuffled examples, repeated.

  The examples are gone through again and again, shuffled anew for each pass,
  and a batch may hold the end of one pass and the beginning of the next.

  Args:
    examples: PyTree of NumPy arrays [n, ...].
    batch_size: B.
    num_epochs: passes: ceil(n * num_epochs / B) batches; None for no limit.
    num_steps: batches, with `num_epochs` at most so many; None for no limit.
    drop_remainder: whether floor takes the place of ceil.
    seed: of the orders, which are FedJAX's for this seed.
    skip_shuffle: takes the examples as they are, and needs no seed.

  Returns:
    An iterator over PyTrees [B, ...]; none if there are no examples.

  Raises:
    ValueError: a number is out of range, there is no seed, or no limit.
  """
  size = num_examples(examples)
  repeat = Repeat(batch_size, num_epochs, num_steps, drop_remainder).check()
  if not skip_shuffle:
    random.seed('seed', seed, 2 ** 32 - 1)
  return _full_batches(
      examples, size, batch_size, int(repeat.steps(size)),
      None if skip_shuffle else seed)


def _full_batches(examples, size, batch_size, count, seed):
  # The legacy generator, since it is the one whose orders FedJAX has.
  generator = np.random.RandomState(seed)  # noqa: NPY002
  order, rows = np.arange(size, dtype=np.int32), np.zeros(0, np.int32)
  for _ in range(count):
    while len(rows) < batch_size:
      if seed is not None:
        generator.shuffle(order)
      rows = np.concatenate([rows, order])
    batch, rows = rows[:batch_size], rows[batch_size:]
    yield jax.tree.map(lambda x, batch=batch: x[batch], examples)


def padded_batch(
    examples: dict[str, np.ndarray], *, batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
  """The examples in order, in batches of B; zeros fill up the last one.

  Args:
    examples: dict of NumPy arrays [n, ...].
    batch_size: B.

  Returns:
    An iterator over dicts of arrays [B, ...], and of `MASK`: bool [B], False
    where filled up.
  """
  size = num_examples(examples)
  checks.positive_int('batch_size', batch_size)
  return (_padded(examples, start, min(start + batch_size, size), batch_size)
          for start in range(0, size, batch_size))


def _padded(examples, start: int, stop: int, batch_size: int):
  def fill(x):
    zeros = np.zeros((start + batch_size - stop, *x.shape[1:]), x.dtype)
    return np.concatenate([x[start:stop], zeros])
  return {**{name: fill(x) for name, x in examples.items()},
          MASK: np.arange(batch_size) < stop - start}

"""What a data set is, once it is read."""

from typing import NamedTuple

import jax
import numpy as np

from fedjax_sim.core import short
from fedjax_sim.core.types import PyTree
from fedjax_sim.data import federated
from fedjax_sim.data.examples import as_examples
from fedjax_sim.data.partition import Partition


class NaturalClients(NamedTuple):
  """Who holds which examples by nature.

  Attributes:
    client_ids: N distinct names.
    partition: N int arrays of indices of training examples.
  """

  client_ids: list[str]
  partition: Partition


class Dataset(NamedTuple):
  """A data set in storage dtype; scaling pixels is the model's part.

  Attributes:
    name: of the set.
    train: {'x': uint8 [n, height, width, channels], 0 to 255, 'y': int32 [n],
      labels 0 to num_classes - 1}. The order is that of the original files. Of
      text {'x': int16 [n, T], tokens, 'y': int16 [n, T], the tokens that
      follow, -1 where there is none}.
    test: the same for the test examples; None if there are none.
    num_classes: how many labels there are; where these are tokens, of tokens;
      where they are real numbers, 1.
    natural: the clients that the set comes with, or None.
    natural_test: who holds the test examples, or None.
    vocabulary: of text, the words; None where they are not kept.
  """

  name: str
  train: dict[str, np.ndarray]
  test: dict[str, np.ndarray] | None
  num_classes: int
  natural: NaturalClients | None = None
  natural_test: NaturalClients | None = None
  vocabulary: list[str] | None = None

  def __repr__(self) -> str:
    return (f'Dataset({self.name}: train {short.arrays(self.train)}, test '
            f'{short.arrays(self.test)})')


class DataUnavailableError(ValueError):
  """No way led to the data; the message lists them and what can be done."""


def checked(dataset: Dataset) -> Dataset:
  """A data set of anybody's, with its parts as arrays that devices take.

  Raises:
    ValueError: it has no training examples, they lack `x` or `y`, or one of
      them is no array of finite numbers; the field and the example are named.
  """
  parts = {'train': dataset.train}
  if dataset.test is not None:
    parts['test'] = dataset.test
  parts = {name: _part(f'dataset {dataset.name}: {name}', part)
           for name, part in parts.items()}
  if not len(parts['train']['y']):
    raise ValueError(f'dataset {dataset.name}: train must have at least one '
                     'example, got 0.')
  if 'test' in parts and not len(parts['test']['y']):
    raise ValueError(f'dataset {dataset.name}: test must have at least one '
                     'example, got 0; None is for no test examples.')
  return dataset._replace(**parts)


def _part(name: str, part: PyTree) -> dict[str, np.ndarray]:
  examples = as_examples(part, name)
  if not isinstance(examples, dict) or not {'x', 'y'} <= set(examples):
    raise ValueError(f'{name} must be a dict with x and y, got '
                     f'{type(part).__name__}.')
  examples = jax.tree.map_with_path(
      lambda path, leaf: federated.narrow(
          name + jax.tree_util.keystr(path), leaf), examples)
  federated.num_examples(examples, name)
  federated.check_all_finite(examples, name)
  return examples

"""What a data set is, once it is read."""

from typing import NamedTuple

import numpy as np

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


class DataUnavailableError(ValueError):
  """No way led to the data; the message lists them and what can be done."""

"""The metric that a run is told by, and which of its values is the best.

`test/accuracy` where there is one; else the first metric of the test set whose
direction somebody stated, else the test loss.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fedjax_sim.simulation.records import Record


class Headline(NamedTuple):
  """A metric that has been measured.

  Attributes:
    name: of its field in the records, such as 'test/accuracy'.
    higher: whether larger values are better.
  """

  name: str
  higher: bool

  @property
  def title(self) -> str:
    """'test accuracy'."""
    return self.name.replace('/', ' ')

  def best(self, values: Sequence[float]) -> int:
    """Where the best value is, the first of equals."""
    return int(np.argmax(values) if self.higher else np.argmin(values))

  def tested(self, records: Iterable[Record]) -> list[Record]:
    """The records of trained models that have it."""
    return [one for one in records
            if one['round'] > 0 and one.get(self.name) is not None]


def of(
    records: Iterable[Record], higher_is_better: Mapping[str, bool]
) -> Headline | None:
  """What these records are told by; None where nothing was tested.

  Args:
    records: those of a metrics file, or of several.
    higher_is_better: name of a metric -> whether it is, as `Model` has it.
  """
  names = {name: None for record in records for name, value in record.items()
           if name.startswith('test/') and value is not None}
  stated = {'test/accuracy': True} | {
      f'test/{name}': higher for name, higher in higher_is_better.items()
  } | {'test/loss': False}
  for name, higher in stated.items():
    if name in names:
      return Headline(name, higher)
  return None

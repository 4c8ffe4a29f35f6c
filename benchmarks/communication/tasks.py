"""What is compared, on what, and for how long."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Entry(NamedTuple):
  """One way to send messages.

  Attributes:
    name: in tables.
    fields: of the config.
    settings: rates that are tried; each has the same fields.
    family: whose panel of a figure it is in.
    steps: of the server, that take as many clients as a synchronous round.
  """

  name: str
  fields: Mapping[str, Any]
  settings: Sequence[Mapping[str, float]]
  family: str = ''
  steps: int = 1


class Task(NamedTuple):
  """A data set, a model, and how long runs last.

  Attributes:
    name: on the command line.
    fields: of the config, of all entries.
    entries: those whose results matter most come first.
    targets: test accuracies; a run ends at the last one.
    rounds: the most; here and below of a synchronous entry.
    every: rounds between evaluations.
    seeds: of the runs that count.
    tuning: what the config of a search of rates has besides; None where there
      is one setting an entry.
    tuning_rounds: of a search: the cut to the better half, and the end.
  """

  name: str
  fields: Mapping[str, Any]
  entries: Sequence[Entry]
  targets: Sequence[float]
  rounds: int
  every: int
  seeds: Sequence[int]
  tuning: Mapping[str, Any] | None = None
  tuning_rounds: tuple[int, int] = (60, 120)

"""Metrics of every client over time: a table, in memory and on disk.

On disk it is `client_metrics.csv`, a line for each client and each round in
which the clients were evaluated: `round,client,examples,loss,accuracy,…`. A
client without test examples has empty fields. Lines are on disk before the
checkpoint of their round, and those of later rounds are dropped when a run goes
on, as in `metrics.jsonl`.
"""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedjax_sim.core import files
from fedjax_sim.experiment.readings import data_frame
from fedjax_sim.simulation.client_evaluation import ClientMetrics

FILE = 'client_metrics.csv'
_FIXED = ('round', 'client', 'examples')


class ClientHistory(NamedTuple):
  """Metrics of N clients in T rounds.

  Attributes:
    rounds: int [T].
    client_ids: [N].
    num_examples: int [N], test examples of each client.
    values: name -> float64 [T, N]; NaN for a client without examples.
  """

  rounds: np.ndarray
  client_ids: list[str]
  num_examples: np.ndarray
  values: dict[str, np.ndarray]

  def __repr__(self) -> str:
    return (f'ClientHistory({", ".join(self.values)} of '
            f'{len(self.client_ids):,} clients in {len(self.rounds):,} rounds)')

  def to_pandas(self) -> Any:
    """A `pandas.DataFrame` with a line for each round and client.

    Raises:
      ValueError: pandas is not installed.
    """
    rounds = len(self.rounds)
    repeat = lambda x: np.tile(np.asarray(x), rounds)
    return data_frame({
        'round': np.repeat(self.rounds, len(self.client_ids)),
        'client': repeat(self.client_ids),
        'examples': repeat(self.num_examples),
        **{name: table.ravel() for name, table in self.values.items()}})


def is_due(round_number: int, every: int, rounds: int) -> bool:
  """Whether clients are evaluated after a round for the table.

  Args:
    round_number: of the round, from 1; 0 is the model before training.
    every: rounds between two evaluations; 0 is none at all.
    rounds: of the run; the last one is evaluated too.
  """
  return every > 0 and (round_number % every == 0 or round_number == rounds)


def append(
    path: Path, round_number: int, client_ids: Sequence[str],
    found: ClientMetrics,
) -> None:
  """Adds a round's lines; on return they are on disk."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  if not path.exists():
    writer.writerow([*_FIXED, *found.values])
  for i, client in enumerate(client_ids):
    values = [column[i] for column in found.values.values()]
    writer.writerow([round_number, client, int(found.num_examples[i]), *(
        repr(float(v)) if np.isfinite(v) else '' for v in values)])
  with files.naming(path), open(
      path, 'a', encoding='utf-8', newline='') as file:
    file.write(text.getvalue())
    file.flush()
    os.fsync(file.fileno())


def truncate_after(path: Path, round_number: int) -> None:
  """Drops the lines of later rounds, and what a kill has cut. Atomic."""
  if not path.exists():
    return
  with open(path, encoding='utf-8', newline='') as file:
    head, *lines = list(csv.reader(file)) or [[]]
  # The last line may be cut, but it is then of a round after the checkpoint.
  kept = [line for line in lines
          if line[0].isdigit() and int(line[0]) <= round_number]
  text = io.StringIO()
  if kept:
    csv.writer(text, lineterminator='\n').writerows([head, *kept])
    with files.replacing(path) as file:
      file.write(text.getvalue().encode())
  else:
    path.unlink()


def read(path: Path) -> ClientHistory:
  """The table.

  Raises:
    ValueError: the file is not such a table; names it and the line.
    FileNotFoundError: there is no such file.
  """
  try:
    with open(path, encoding='utf-8', newline='') as file:
      head, *lines = list(csv.reader(file)) or [[]]
  except (UnicodeDecodeError, csv.Error) as error:
    raise ValueError(f'{path} is damaged: {error}.') from error
  names = head[len(_FIXED):]
  if tuple(head[:len(_FIXED)]) != _FIXED:
    raise ValueError(f'{path}, line 1: must begin with {",".join(_FIXED)}, got '
                     f'{",".join(head)!r:.80}.')
  for i, line in enumerate(lines):
    if len(line) != len(head) or not line[0].isdigit():
      raise ValueError(f'{path}, line {i + 2}: not {len(head)} fields that '
                       f'begin with a round, got {",".join(line)!r:.80}.')
  clients = list(dict.fromkeys(line[1] for line in lines))
  if len(lines) % max(len(clients), 1):
    raise ValueError(
        f'{path}: {len(lines)} lines for {len(clients)} clients, so some '
        'clients are missing in a round.')
  for i, line in enumerate(lines):
    try:
      int(line[2])
      line[3:] = [float(text) if text else np.nan for text in line[3:]]
    except ValueError as error:
      raise ValueError(f'{path}, line {i + 2}: {error}.') from None
  values = np.array([line[3:] for line in lines], float)
  values = values.reshape(-1, len(clients), len(names))
  return ClientHistory(
      np.array([int(line[0]) for line in lines[::len(clients) or 1]], int),
      clients, np.array([int(x[2]) for x in lines[:len(clients)]], int),
      {name: values[:, :, i] for i, name in enumerate(names)})


def joined(
    client_ids: Sequence[str], found: Sequence[tuple[int, ClientMetrics]]
) -> ClientHistory:
  """The table of what was found in some rounds, at least one."""
  first = found[0][1]
  return ClientHistory(
      np.array([r for r, _ in found]), list(client_ids),
      np.asarray(first.num_examples),
      {name: np.stack([one.values[name] for _, one in found])
       for name in first.values})

"""The store of results: one JSON object a line, several lines a key.

A line counts once its newline is written: what a kill left after the last
newline is not there for `read`, and the next `append` removes it. Lines that a
new one replaces are removed with it. Several processes may append and read at
once; `claim` keeps them off the same cell.

Of a key's lines the one counts that says most: one that is done before a
partial one; of those that are done the one with more seeds, of partial ones the
one with more rounds; else the last. So a search that begins again, with more
seeds or without its checkpoint, takes nothing away until it has more to say.

A record, for the cell with its `key`:

  tables, model, partition, algorithm, C, E, B, targets   of the cell
  state        'done', or 'partial': more rounds or rates are to come
  seeds        [S]
  rates        learning rate ('%.4g') -> {rounds: how many were run, crossings:
               target -> [S] rounds, null = not crossed in those, stopped:
               'reached', 'beaten', 'diverged', 'limit' or 'running',
               best_accuracy: [S]}
  best_rate    target -> learning rate
  crossings    target -> [S], at that rate; both by `results.best`
  curve        {rate, rounds: [P], test_accuracy: [S][P], train_loss: [S][P]},
               by `results.thin`
  search       {seeds, rates}: those of the search, where it had fewer seeds;
               then `rates` has the best one alone
  precision    of products, as config.precision; not in the oldest records
  config, seconds, device, versions, commit, date, notes

Rounds are those of the run; where the tables have another unit (minibatch
updates of SGD), the report multiplies. A target is written as '%g'.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fedjax_sim.core import files

_ROOT = Path(__file__).parents[2]
STORE = _ROOT / 'benchmarks' / 'results' / 'paper' / 'cells.jsonl'
WORK = _ROOT / 'runs' / 'paper'
CLAIMS = WORK / 'claims'
STATES = ('done', 'partial')

Record = dict[str, Any]


def append(path: str | os.PathLike, record: Mapping[str, Any]) -> None:
  """Adds a record to a store, which is made if it isn't there.

  Lines that neither `read` nor `latest` gives any longer are left out.

  When this returns, the record is on the disk.

  Raises:
    ValueError: there is no `key`, the `state` is not one, or a number is NaN or
      infinite, which JSON does not have. Nothing has been written then.
  """
  if not isinstance(record.get('key'), str):
    raise ValueError(f'key must be a string, got {record.get("key")!r}.')
  if record.get('state') not in STATES:
    raise ValueError(f'state must be one of {", ".join(STATES)}, got '
                     f'{record.get("state")!r} for {record["key"]}.')
  line = json.dumps(record, allow_nan=False).encode()
  Path(path).parent.mkdir(parents=True, exist_ok=True)
  with _held(path) as file:
    lines = [*file.read().split(b'\n')[:-1], line]
    records = [_decode(one, path, i + 1) for i, one in enumerate(lines)]
    with files.replacing(path) as part:
      part.write(b''.join(lines[i] + b'\n' for i in _needed(records)))


def read(path: str | os.PathLike) -> dict[str, Record]:
  """The record of each key that says most; empty if there is no store.

  Raises:
    ValueError: a whole line is not a record; the message names path and line.
  """
  records = _records(path)
  return {key: records[i] for key, i in _counting(records).items()}


def latest(
    path: str | os.PathLike, key: str, seeds: Sequence[int]
) -> Record | None:
  """A key's last record with just these seeds, where a search goes on.

  Raises:
    ValueError: as `read`.
  """
  own = [record for record in _records(path)
         if record['key'] == key and record.get('seeds') == list(seeds)]
  return own[-1] if own else None


def _records(path: str | os.PathLike) -> list[Record]:
  if not os.path.exists(path):
    return []
  lines = Path(path).read_bytes().split(b'\n')[:-1]
  return [_decode(line, path, i + 1) for i, line in enumerate(lines)]


def _counting(records: Sequence[Record]) -> dict[str, int]:
  """Key -> the place of the record that says most, the later of equals."""
  found = {}
  for i, record in enumerate(records):
    known = found.get(record['key'])
    if known is None or _rank(record) >= _rank(records[known]):
      found[record['key']] = i
  return found


def _rank(record: Record) -> tuple[bool, int]:
  """How much a record says."""
  if record.get('state') == 'done':
    return True, len(record.get('seeds', ()))
  return False, max(
      (rate['rounds'] for rate in record.get('rates', {}).values()), default=0)


@contextlib.contextmanager
def claim(folder: str | os.PathLike, key: str) -> Iterator[bool]:
  """Holds a key while the block runs, in all processes of this machine.

  The claim ends with the process, however that ends. Read the store after the
  key is yours: another process may have finished it just before.

  Args:
    folder: for the lock files, which stay; made if it isn't there.
    key: of a cell.

  Yields:
    Whether the key is now held; False if someone else holds it.
  """
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / f'{key.replace("/", "_")}.lock', 'wb') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      held = True
    except BlockingIOError:
      held = False
    yield held


@contextlib.contextmanager
def _held(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """Opens a store, made if it isn't there, for whoever changes it alone."""
  while True:
    with open(path, 'a+b') as file:
      fcntl.flock(file, fcntl.LOCK_EX)  # Until the file is closed.
      # Whoever held it before may have put another file in its place.
      if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
        file.seek(0)
        yield file
        return


def _needed(records: Sequence[Record]) -> list[int]:
  """Of which lines something is read, in their order."""
  last = {(record['key'], tuple(record.get('seeds', ()))): i
          for i, record in enumerate(records)}
  return sorted({*_counting(records).values(), *last.values()})


def _decode(line: bytes, path: str | os.PathLike, number: int) -> Record:
  try:
    record = json.loads(line)
    valid = isinstance(record, dict) and 'key' in record
  except ValueError:
    valid = False
  if not valid:
    raise ValueError(f'{path}, line {number}: not a JSON object with a key: '
                     f'{line[:80]!r}.')
  return record

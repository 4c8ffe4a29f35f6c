"""Metrics on disk (`metrics.jsonl`), and the paper's rounds to a target.

A metrics file holds one JSON object a line: an integer `round`, numbers under
flat names such as `test/accuracy`, and last `crc32`, that of the line's bytes
before `, "crc32"`. A line counts once its newline is written: what a kill left
after the last newline is not there for `read`, and the next `append` or
`truncate_after` removes it.

Rounds of which there is no record, since lines were damaged or lost, stay
missing: `missing_rounds` tells them.
"""

import json
import math
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_sim.core import files
from fedjax_sim.simulation.records import Record

_LINE = re.compile(rb'(\{.*), "crc32": ([0-9]+)\}', re.DOTALL)


def rounds_to_target(
    rounds: Sequence[float], values: Sequence[float | None], target: float
) -> float | None:
  """When a curve, made monotone, first reaches a target (McMahan et al. 2016).

  With the evaluations (r_0, v_0), (r_1, v_1), ... and the best value so far,
  b_i = max(v_0, ..., v_i), let i be the first with b_i >= target. The result is
  r_0 if i = 0, else by linear interpolation

    r_{i-1} + (r_i - r_{i-1}) (target - b_{i-1}) / (b_i - b_{i-1}).

  Higher is better: for a loss, negate values and target.

  Args:
    rounds: [n], strictly increasing.
    values: [n]; those that are None, NaN or infinite count as not evaluated.
    target: finite.

  Returns:
    A number of rounds, in general not whole; None if the target is not reached.

  Raises:
    ValueError: the lengths differ, rounds don't increase, or the target is not
      finite.
  """
  rounds, values = np.asarray(rounds, float), np.asarray(values, float)
  if rounds.ndim != 1 or rounds.shape != values.shape:
    raise ValueError('rounds and values must be 1-D and of one length, got '
                     f'shapes {rounds.shape} and {values.shape}.')
  if not np.all(np.diff(rounds) > 0):
    raise ValueError(f'rounds must increase strictly, got {rounds.tolist()}.')
  if not math.isfinite(target):
    raise ValueError(f'target must be finite, got {target!r}.')
  evaluated = np.isfinite(values)
  rounds, best = rounds[evaluated], np.maximum.accumulate(values[evaluated])
  reached = np.flatnonzero(best >= target)
  if not len(reached):
    return None
  i = reached[0]
  if i == 0:
    return float(rounds[0])
  part = (target - best[i - 1]) / (best[i] - best[i - 1])
  return float(rounds[i - 1] + (rounds[i] - rounds[i - 1]) * part)


def missing_rounds(
    records: Iterable[Mapping[str, Any]], rounds: int) -> list[int]:
  """The rounds from 1 to `rounds` of which there is no record."""
  return sorted(set(range(1, rounds + 1)).difference(
      record['round'] for record in records))


def ranges(rounds: Sequence[int]) -> str:
  """Rounds in words, such as 'rounds 3 to 5, 9'; they increase."""
  ends = []
  for r in rounds:
    if ends and ends[-1][1] == r - 1:
      ends[-1][1] = r
    else:
      ends.append([r, r])
  text = ', '.join(f'{a}' if a == b else f'{a} to {b}' for a, b in ends)
  return f'round{"s" if len(rounds) > 1 else ""} {text}'


def last_round(path: str | os.PathLike) -> int:
  """The round of a metrics file's last record, 0 if there is none.

  Raises:
    ValueError: it is damaged.
  """
  if not os.path.exists(path):
    return 0
  line, = (Path(path).read_bytes().split(b'\n')[-2:-1] or [b''])
  if not line:
    return 0
  record = _decode(line)
  if record is None:
    raise ValueError(f'{path} is damaged: its last line is not a record with '
                     'the checksum that it was written with.')
  return record['round']


def append(
    path: str | os.PathLike, records: Iterable[Mapping[str, Any]]) -> None:
  """Adds records to a metrics file, which is made if it isn't there.

  When this returns, the records are on the disk. Floats are written so that
  reading them gives the same bits. JSON has no NaN or infinity: both, like
  None, are written as null.

  Args:
    path: the file.
    records: mappings with a whole number `round`, and maybe a list of texts
      `cohort`; the other values are real scalars (Python's, NumPy's or JAX's),
      written as floats, or None.

  Raises:
    ValueError: a record has no such `round`, or a value is not a number.
      Nothing has been written then.
    OSError: it can't be written, for example because the disk is full. What
      has been written of these records is removed.
  """
  lines = b''.join(_encode(record) for record in records)
  _drop_cut_line(path)
  with files.naming(path), open(path, 'ab', buffering=0) as file:
    size = file.tell()
    try:
      written = 0
      while written < len(lines):
        written += file.write(lines[written:])
      os.fsync(file.fileno())
    except OSError:
      file.truncate(size)
      raise


def read(path: str | os.PathLike) -> list[Record]:
  """The records of a metrics file: `round` an int, the others floats or None.

  A last line without its newline, cut off by a kill, is left out. A file that
  isn't there has no records.

  Raises:
    ValueError: a whole line is damaged or not a record; the message names path
      and line.
  """
  if not os.path.exists(path):
    return []
  for number, (line, record) in enumerate(_lines(path), 1):
    if record is None:
      raise ValueError(
          f'{path}, line {number}: not a record with the checksum that it was '
          f'written with: {line[:80]!r}.')
  return [record for _, record in _lines(path)]


def truncate_after(path: str | os.PathLike, round_number: int) -> list[int]:
  """Drops records of later rounds, and what `read` would refuse. Atomic.

  Rows that stay keep their bytes. Where damaged lines are dropped, the file as
  it was is kept beside it, as `metrics.jsonl.damaged`. A last line that was cut
  off is dropped too. A file that isn't there stays so.

  Args:
    path: the file.
    round_number: the last round to keep.

  Returns:
    The numbers, from 1, of the damaged lines.
  """
  path = Path(path)
  if not path.exists():
    return []
  lines = _lines(path)
  damaged = [i for i, (_, record) in enumerate(lines, 1) if record is None]
  if damaged:
    files.set_aside(shutil.copy2(path, files.part_of(path)), path.name)
  kept = [line for line, record in lines
          if record is not None and record['round'] <= round_number]
  with files.replacing(path) as file:
    file.write(b''.join(kept))
  return damaged


def _encode(record: Mapping[str, Any]) -> bytes:
  if not _is_whole(record.get('round')):
    raise ValueError(
        "a record must have a whole number 'round', got "
        f'{record.get("round")!r} in {dict(record)!r}.')
  fields = {
      name: int(value) if name == 'round' else _texts(name, value)
      if name == 'cohort' else _number(name, value)
      for name, value in record.items()}
  if 'crc32' in fields:
    raise ValueError("a record must have no field 'crc32': that is the name of "
                     "its line's checksum.")
  line = json.dumps(fields, allow_nan=False).encode()[:-1]
  return line + f', "crc32": {zlib.crc32(line)}}}\n'.encode()


def _number(name: str, value: Any) -> float | None:
  if value is None:
    return None
  try:
    # float() alone would take '1', True and arrays of one element too.
    if isinstance(value, (bool, str, bytes)) or np.shape(value):
      raise TypeError
    number = float(value)
  except (TypeError, ValueError, OverflowError):
    raise ValueError(
        f'{name} must be a real number or None, got {value!r}.') from None
  return number if math.isfinite(number) else None


def _texts(name: str, values: Any) -> list[str]:
  if not isinstance(values, list) or not all(
      isinstance(value, str) for value in values):
    raise ValueError(f'{name} must be a list of texts, got {values!r}.')
  return values


def _is_whole(value: Any) -> bool:
  return not isinstance(value, bool) and hasattr(value, '__index__')


def _lines(path: str | os.PathLike) -> list[tuple[bytes, Record | None]]:
  """(bytes with the newline, record or None if damaged) of each whole line."""
  *lines, _ = Path(path).read_bytes().split(b'\n')
  return [(line + b'\n', _decode(line)) for line in lines]


def _decode(line: bytes) -> Record | None:
  """The record, None if the line is not what was written."""
  found = _LINE.fullmatch(line)
  if found is None or zlib.crc32(found[1]) != int(found[2]):
    return None
  return json.loads(found[1] + b'}')


def _drop_cut_line(path: str | os.PathLike) -> None:
  """Cuts the file after its last newline."""
  if not os.path.exists(path):
    return
  with open(path, 'rb+') as file:
    if not file.seek(0, os.SEEK_END):
      return
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b'\n':
      file.seek(0)
      file.truncate(file.read().rfind(b'\n') + 1)

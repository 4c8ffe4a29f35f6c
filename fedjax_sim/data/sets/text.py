"""What the readers of text share: files of lines, and what they return."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedjax_sim.data.sets import raw_files

_SUFFIXES = ('', '.xz', '.gz')
_FORMS = {'.xz': 'xz', '.gz': 'gzip'}


class TextClients(NamedTuple):
  """Sequences of T tokens, who wrote them, and a pooled test set.

  Attributes:
    train: {'x': int16 [E, T], tokens, 'y': int16 [E, T], the tokens that
      follow, -1 where there is none to predict}; grouped by client.
    test: the same for the test examples.
    client_ids: N distinct names, sorted.
    partition: N int64 arrays of indices of training examples.
  """

  train: dict[str, np.ndarray]
  test: dict[str, np.ndarray]
  client_ids: list[str]
  partition: list[np.ndarray]


def consecutive(sizes: list[int]) -> list[np.ndarray]:
  """The partition of examples that lie client by client, from sizes [N]."""
  return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])


def places(folder: str | os.PathLike | None, own: str) -> list[Path]:
  """A user's folder, the set's own folder in it first.

  Raises:
    WayFailed: there is no such folder.
  """
  if not folder:
    raise raw_files.WayFailed('not given')
  folder = Path(folder).expanduser()
  if not os.path.isdir(folder):
    raise raw_files.WayFailed(f'{folder} is not a folder')
  return [place for place in (folder / own, folder) if os.path.isdir(place)]


def only_file(folder: Path, pattern: str) -> Path | None:
  """The file of a pattern, plain, .xz or .gz; None if there is none.

  Raises:
    ValueError: there are several.
  """
  found = sorted(path for suffix in _SUFFIXES
                 for path in folder.glob(pattern + suffix))
  if len(found) > 1:
    raise ValueError(
        f'{folder} must hold one file {pattern} (or .xz, .gz), got '
        f'{", ".join(path.name for path in found)}.')
  return found[0] if found else None


def read_lines(path: Path) -> list[str]:
  """A file's lines of UTF-8, without their ends.

  Raises:
    ValueError: it is truncated, damaged, of another encoding, or unpacks to
      more than raw_files.MAX_BYTES.
  """
  # By line feeds alone: JSON may hold other ends of lines inside strings.
  return read_text(path).replace('\r\n', '\n').split('\n')


def read_text(path: Path) -> str:
  """A file's text, as in `read_lines`."""
  try:
    data = path.read_bytes()
    if path.suffix in _FORMS:
      data = raw_files.inflate(data, raw_files.MAX_BYTES, _FORMS[path.suffix])
    return data.decode('utf-8-sig')
  except (OSError, ValueError) as error:  # The latter of the encoding, too.
    raise ValueError(
        f'{path} is truncated, damaged or unreadable: {error}') from error


def parse_json(document: str, where: object) -> Any:
  """What a JSON text holds.

  Raises:
    ValueError: it is none, or nested too deep; names `where` it is.
  """
  try:
    return json.loads(document)
  except (ValueError, RecursionError) as error:
    reason = str(error) if isinstance(error, ValueError) else 'nested too deep'
    raise ValueError(f'{where} is no JSON: {reason}') from error


def _is_text(value: Any) -> bool:
  """Whether it is text that can be written; halves of a character can't."""
  try:
    return isinstance(value, str) and value.encode() is not None
  except UnicodeEncodeError:
    return False


def read_records(
    path: Path, fields: Mapping[str, type]
) -> Iterator[dict[str, Any]]:
  """The JSON object of each line that isn't blank.

  Args:
    path: of the file.
    fields: what each must hold: name -> str, or list for a list of strings.

  Raises:
    ValueError: naming the line that holds no such object.
  """
  for number, line in enumerate(read_lines(path), 1):
    if not line.strip():
      continue
    record = parse_json(line, f'{path}, line {number}')
    for name, kind in fields.items():
      value = record.get(name) if isinstance(record, dict) else None
      if not isinstance(value, kind) or not all(map(_is_text, value)):
        what = 'a string' if kind is str else 'a list of strings'
        raise ValueError(
            f'{path}, line {number} must be an object with {what} {name!r}.')
    yield record

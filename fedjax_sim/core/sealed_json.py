"""JSON files that hold a checksum of themselves.

The last field, `sha256`, is that of the same object without it, as UTF-8 text
with sorted keys, an indent of 2 and a final newline. So a value that somebody
or a bad disk has changed is noticed when the file is read.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from fedjax_sim.core import files

_FIELD = 'sha256'


def write(path: Path | str, value: dict[str, Any]) -> None:
  """Writes an object, whole or not at all.

  Args:
    path: the file.
    value: what JSON can hold, by names other than `sha256`.
  """
  plain = json.loads(_text(value))
  text = json.dumps({**plain, _FIELD: _digest(value)}, indent=2)
  with files.replacing(path) as file:
    file.write(f'{text}\n'.encode())


def read(path: Path | str) -> dict[str, Any]:
  """What `write` has written.

  Raises:
    ValueError: it was not written by `write`, or changed since.
    OSError: it can't be read.
  """
  try:
    value = json.loads(Path(path).read_bytes().decode())
    seal = value.pop(_FIELD) if isinstance(value, dict) else None
    good = seal == _digest(value)
  except (ValueError, KeyError, RecursionError):
    good = False
  if not good:
    raise ValueError(
        f'{path} is damaged: it is not what was written there, which ends with '
        f"its own checksum, '{_FIELD}'.")
  return value


def _text(value: Any) -> str:
  return f'{json.dumps(value, indent=2, sort_keys=True)}\n'


def _digest(value: Any) -> str:
  return hashlib.sha256(_text(value).encode()).hexdigest()

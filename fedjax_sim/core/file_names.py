"""Names that come with data and become names of files."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_MOST_BYTES = 200  # File systems take 255, and suffixes are added.
_SEPARATORS = frozenset('/\\:')


def file_name(what: str, name: Any) -> str:
  """Returns `name` if a file of that name stays in the folder it is put in.

  Everything that turns data into names of files goes through here: what is
  refused is refused on every system, so that a folder written on one can be
  copied to another.

  Args:
    what: what the name is of, for errors.
    name: anything.

  Raises:
    ValueError: it is no text, empty, longer than 200 bytes, starts with a dot
      or ends with a dot or a space, or has a separator of paths (/, \\ or :) or
      an unprintable character.
  """
  fault = _fault(name)
  if fault:
    raise ValueError(
        f'{what} must be usable as the name of a file, without /, \\ and : and '
        f'not starting with a dot; got {_shown(name)}, which {fault}.')
  return name


def distinct_file_names(what: str, names: Iterable[Any]) -> None:
  """As `file_name` for each; and no two are the same but for their case."""
  seen = {}
  for name in names:
    folded = file_name(what, name).casefold()
    if folded in seen:
      raise ValueError(
          f'{what}: {seen[folded]!r} and {name!r} would be one file where case '
          'is ignored; rename one.')
    seen[folded] = name


def as_path(what: str, value: Any) -> Path:
  """`value` as a path, or ValueError if it is neither text nor a path."""
  if not isinstance(value, str | os.PathLike) or '\0' in os.fspath(value):
    raise ValueError(f'{what} must be a path, got {_shown(value)}.')
  return Path(value)


def _fault(name: Any) -> str:
  if not isinstance(name, str):
    return f'is a {type(name).__name__}'
  if not name:
    return 'is empty'
  if not name.isprintable():
    return 'has an unprintable character'
  if found := _SEPARATORS & set(name):
    return f'has {", ".join(sorted(found))}'
  if name[0] == '.' or name[-1] in '. ':
    return 'starts with a dot, or ends with a dot or a space'
  if len(name.encode()) > _MOST_BYTES:
    return f'has more than {_MOST_BYTES} bytes'
  return ''


def _shown(name: Any) -> str:
  text = repr(name)
  return text if len(text) <= 80 else f'{text[:77]}...'

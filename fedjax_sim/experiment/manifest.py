"""What a checkpoint's folder holds: each file's length and sha256.

`manifest.json` in it is written last, so a folder without one is incomplete.
"""

import os
from pathlib import Path
from typing import Any

from fedjax_sim.core import files, sealed_json

NAME = 'manifest.json'


def write(folder: Path, notes: dict[str, Any]) -> None:
  """Writes the manifest of all that a folder holds.

  On return all of it is on the disk.

  Args:
    folder: holds the rest already.
    notes: what else to keep, as JSON can hold it.
  """
  found = _files(folder)
  for file in found:
    with open(file, 'rb') as opened:
      os.fsync(opened.fileno())
  sealed_json.write(folder / NAME, {
      'files': {str(file.relative_to(folder)): _entry(file) for file in found},
      'notes': notes})
  for path in [folder, *(p for p in folder.rglob('*') if p.is_dir())]:
    files.sync_folder(path)


def verify(folder: Path) -> dict[str, Any]:
  """The notes, once every file is what was written.

  Raises:
    ValueError: one was changed, or is missing, or does not belong there; the
      message names it.
  """
  try:
    manifest = sealed_json.read(folder / NAME)
  except OSError as error:
    raise ValueError(
        f"{folder / NAME} can't be read: {error.strerror}.") from error
  listed = manifest['files']
  found = {str(file.relative_to(folder)): file for file in _files(folder)}
  for name in sorted(listed.keys() | found.keys()):
    if name not in found:
      raise ValueError(f'{folder / name} is missing.')
    if name not in listed:
      raise ValueError(f'{folder / name} does not belong there.')
    try:
      same = _entry(found[name]) == listed[name]
    except OSError as error:
      raise ValueError(
          f"{folder / name} can't be read: {error.strerror}.") from error
    if not same:
      raise ValueError(
          f'{folder / name} is damaged: its length or its sha256 is not that '
          'of what was written.')
  return manifest['notes']


def _files(folder: Path) -> list[Path]:
  """All but the manifest."""
  return [path for path in sorted(folder.rglob('*'))
          if not path.is_dir() and path != folder / NAME]


def _entry(file: Path) -> dict[str, Any]:
  return {'bytes': file.stat().st_size, 'sha256': files.sha256(file)}

"""Files that are written whole or not at all, and where the cache is."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[BinaryIO]:
  """Opens a file to write; it takes the place of `path` once it is complete.

  Until then, and if the block raises, `path` stays as it was. On return the
  bytes are on the disk.

  Raises:
    OSError: it can't be written, for example because the disk is full; the
      error's `filename` is `path`.
  """
  path = Path(path)
  part = part_of(path)
  try:
    with naming(path):
      with open(part, 'wb') as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
      os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
  """Where a file or folder is, beside `path`, until it is complete."""
  return path.with_name(f'.{path.name}.{os.getpid()}.part')


def remove_parts(folder: Path) -> None:
  """Removes what interrupted processes left incomplete, at any depth.

  Only for a process that holds the folder alone: parts of one that still writes
  would go too.
  """
  for part in sorted(folder.rglob('.*.part')):
    if part.is_dir():
      shutil.rmtree(part, ignore_errors=True)
    else:
      part.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
  """Gives an OSError the name of the file, which writing leaves out."""
  try:
    yield
  except OSError as error:
    if error.errno is not None:  # Else its own text would be lost.
      error.filename = str(path)
    raise


def set_aside(path: Path, name: str | None = None) -> Path:
  """Renames a damaged file or folder, so that it is kept and not used.

  Args:
    path: the file or folder.
    name: what to call it instead of its own name.

  Returns:
    What it is called now, such as `5.damaged` or `5.damaged-2`.
  """
  name, count = name or path.name, 1
  other = path.with_name(f'{name}.damaged')
  while other.exists():
    count += 1
    other = path.with_name(f'{name}.damaged-{count}')
  os.rename(path, other)
  return other


def sha256(path: Path) -> str:
  """The sha256 of a file, in hex."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def sync_folder(path: Path | str) -> None:
  """On return it is on the disk which files a folder holds."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    with naming(path):
      os.fsync(descriptor)
  finally:
    os.close(descriptor)


def cache_folder() -> Path:
  """Our cache: $FEDJAX_SIM_CACHE_DIR, else fedjax_sim in the user's cache.

  The folder need not exist. What is in it can be made or loaded again.
  """
  root = os.environ.get('FEDJAX_SIM_CACHE_DIR')
  if not root:
    root = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'fedjax_sim'
  return Path(root).expanduser()

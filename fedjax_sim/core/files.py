"""Files that are written whole or not at all, and where the cache is."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[BinaryIO]:
  """Opens a file to write; it takes the place of `path` once it is complete.

  Until then, and if the block raises, `path` stays as it was. On return the
  bytes are on the disk.
  """
  path = Path(path)
  part = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    with open(part, 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)


def sync_folder(path: Path | str) -> None:
  """On return it is on the disk which files a folder holds."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def cache_folder() -> Path:
  """Our cache: $FEDJAX_SIM_CACHE_DIR, else fedjax_sim in the user's cache.

  The folder need not exist. What is in it can be had again.
  """
  root = os.environ.get('FEDJAX_SIM_CACHE_DIR')
  if not root:
    root = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'fedjax_sim'
  return Path(root).expanduser()

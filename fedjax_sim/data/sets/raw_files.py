"""What the ways to all data sets share: bytes of files, and how a way fails.

A way is a function that returns the verified bytes of a set's files, or raises
`WayFailed` with a reason in words.
"""

import gzip
import os
import tempfile
import textwrap
import zlib
from collections.abc import Mapping
from pathlib import Path

_GZIP = b'\x1f\x8b'

# File name -> its uncompressed bytes.
Contents = Mapping[str, bytes]


class WayFailed(Exception):
  """A way did not lead to the data; the message says why."""


def brief(error: BaseException) -> str:
  """Returns an error in one line of bounded length."""
  return textwrap.shorten(f'{type(error).__name__}: {error}', 300)


def read(path: Path) -> bytes:
  """Returns a file's bytes, uncompressed; ValueError if that can't be done."""
  try:
    data = path.read_bytes()
    # By content: browsers and TFDS uncompress files and keep `.gz` in the name.
    return gzip.decompress(data) if data.startswith(_GZIP) else data
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(
        f'{path} is truncated, damaged or unreadable: {error}') from error


def store(folder: Path, contents: Contents) -> None:
  """Writes `contents` into `folder`: each file whole or not at all."""
  folder.mkdir(parents=True, exist_ok=True)
  for file, data in contents.items():
    # In the same folder, so that `replace` is one step, for any reader and
    # however many processes do this at once.
    handle, temporary = tempfile.mkstemp(prefix=f'.{file}.', dir=folder)
    try:
      with os.fdopen(handle, 'wb') as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
      os.chmod(temporary, 0o644)  # A cache may be shared; mkstemp says 0o600.
      os.replace(temporary, folder / file)
    except BaseException:
      os.unlink(temporary)
      raise

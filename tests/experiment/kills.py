"""Kills a run at its writes, goes on with it, and compares with one left alone.

  python -m tests.experiment.kills --moments=40

A moment is the n-th time that the run is about to write: before a file is
opened for writing, when half of some bytes are written, before an fsync, a
rename, an unlink or a new folder. There the process kills itself with SIGKILL.
Half of the moments are spread from the first write to the last, the other half
over the last second. After each kill the same run is started again, and must
leave a folder that is complete and equal to that of a run which nothing
disturbed: the same bytes in each file, but for times, and checkpoints that
verify.

All processes are forked from one that has imported everything and computed
nothing.
"""

import argparse
import builtins
import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401
import numpy as np
import sklearn.datasets  # noqa: F401

from configs import digits_quickstart
from fedjax_sim.experiment import metrics, workdir
from fedjax_sim.experiment import run as run_lib
from fedjax_sim.experiment.verify import verify

ROUNDS = 5
_EVENTS = ('fsync', 'replace', 'rename', 'unlink', 'mkdir', 'rmdir',
           'posix_fallocate')


def config():
  """All that a run can write: states on disk, tables of clients, the best."""
  changed = digits_quickstart.get_config()
  changed.update(
      rounds=ROUNDS, model='logistic_regression', devices=1, lanes=5,
      algorithm='scaffold', client_state='stored', checkpoint_seconds=0.0,
      keep_checkpoints=2, rounds_per_dispatch=2, client_eval_every=2,
      best_metric='test/accuracy')
  return changed.lock()


class _Writes:
  """Counts a process's writes, and kills it at one of them."""

  def __init__(self, last: int | None):
    self.times, self._last = [], last

  def event(self) -> None:
    """Before something is written."""
    self.times.append(time.monotonic())
    if len(self.times) == self._last:
      os.kill(os.getpid(), signal.SIGKILL)

  def watch(self) -> None:
    """From now on, in this process."""
    for name in _EVENTS:
      setattr(os, name, self._before(getattr(os, name)))
    opened = builtins.open

    def watched(file, mode='r', *args, **options):
      if not set(mode) & set('wax+') or file == os.devnull:
        return opened(file, mode, *args, **options)
      self.event()
      found = opened(file, mode, *args, **options)
      return found if '+' in mode else _File(found, self)

    builtins.open = watched

  def _before(self, function):
    def watched(*args, **options):
      self.event()
      return function(*args, **options)
    return watched


class _File:
  """A file that is written by halves."""

  def __init__(self, file, writes: _Writes):
    self._file, self._writes = file, writes

  def write(self, data):
    middle = len(data) // 2
    first = self._file.write(data[:middle])
    self._file.flush()
    self._writes.event()
    return first + self._file.write(data[middle:])

  def __getattr__(self, name):
    return getattr(self._file, name)

  def __enter__(self):
    self._file.__enter__()
    return self

  def __exit__(self, *error):
    return self._file.__exit__(*error)


def run(folder: Path, kill_at: int | None = None) -> dict | None:
  """Runs in a process of its own.

  Returns:
    The times of its writes and the folder's content; None if it was killed.
  """
  log = folder.parent / 'log'
  child = os.fork()
  if not child:
    try:
      with log.open('w') as out, contextlib.redirect_stdout(out):
        writes = _Writes(kill_at)
        writes.watch()
        assert run_lib.run(config(), 'test', workdir_path=folder) == 0
      (folder.parent / 'found').write_text(json.dumps({
          'times': writes.times, 'content': content(folder)}))
    except BaseException:
      traceback.print_exc()
      os._exit(1)
    os._exit(0)
  _, status = os.waitpid(child, 0)
  if os.WIFSIGNALED(status):
    assert os.WTERMSIG(status) == signal.SIGKILL and kill_at is not None
    return None
  assert status == 0, log.read_text()
  return json.loads((folder.parent / 'found').read_text())


def content(folder: Path) -> dict[str, Any]:
  """What a folder holds, by file, without what depends on the time."""
  verify(folder)
  found = {}
  for file in sorted(folder.rglob('*')):
    name = str(file.relative_to(folder))
    if file.is_dir() or name == '.lock':
      continue
    if name == 'metrics.jsonl':
      found[name] = [
          {k: v for k, v in record.items() if k != 'seconds'}
          for record in metrics.read(file)]
    elif name.startswith('checkpoints/'):
      found['/'.join(Path(name).parts[:2])] = 'verified'
    elif name == 'config.json':  # Environments may be two.
      record = workdir.read_json(file)
      found[name] = [record['config'], record['resolved']]
    elif name.startswith('client_states/'):
      found[name] = 'verified when read'  # Which record is whose may differ.
    else:
      found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
  return found


def moments(times: list[float], count: int) -> list[int]:
  """Numbers of writes, from 1: half of all, half of those of a last second."""
  late = np.searchsorted(times, times[-1] - 1.0) + 1
  half = -(-count // 2)
  everywhere = np.linspace(1, len(times), count - half)
  return sorted(int(round(n)) for n in [
      *everywhere, *np.linspace(late, len(times), half)])


def main(count: int) -> None:
  """Kills at `count` moments, and prints what came of it."""
  with tempfile.TemporaryDirectory() as root:
    for name in ('first', 'whole'):  # The first writes programs to the cache.
      whole = Path(root) / name / 'run'
      whole.parent.mkdir()
      undisturbed = run(whole)
    want, times = undisturbed['content'], undisturbed['times']
    chosen = moments(times, count)
    for number in chosen:
      folder = Path(root) / 'killed' / 'run'
      folder.parent.mkdir()
      assert run(folder, kill_at=number) is None, f'not killed at {number}'
      found = run(folder)['content']
      different = [name for name in sorted(want.keys() | found.keys())
                   if want.get(name) != found.get(name)]
      assert not different, f'killed at write {number}: {different} differ'
      shutil.rmtree(folder.parent)
    late = sum(times[n - 1] >= times[-1] - 1.0 for n in chosen)
    print(f'killed at {len(chosen)} of {len(times)} writes, from the first to '
          f'the last, {late} of them within the last second; after the same '
          f'command {len(chosen)} folders of {len(want)} parts are complete '
          'and equal')


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--moments', type=int, default=40)
  main(parser.parse_args(sys.argv[1:]).moments)

"""Folders of runs after kills, full disks, flipped bits and lost files."""

import builtins
import errno
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs import digits_quickstart
from fedjax_sim.experiment import metrics, plots, run_sweep, workdir
from fedjax_sim.experiment import run as run_lib
from fedjax_sim.experiment.verify import verify
from tests.experiment import flips, kills

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
  """Figures whose bytes depend on nothing."""
  monkeypatch.setattr(
      plots, '_save', lambda figure, path: Path(path).write_bytes(b'figure'))


def run(folder, **changes):
  config = kills.config().unlock()
  config.update(changes)
  return run_lib.run(config.lock(), 'test', workdir_path=folder)


@pytest.fixture(scope='module', name='whole')
def whole_fixture(tmp_path_factory):
  """A run that nothing disturbed; not to be changed."""
  folder = tmp_path_factory.mktemp('whole') / 'run'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
        plots, '_save', lambda figure, path: Path(path).write_bytes(b'figure'))
    assert run(folder) == 0
  return folder


@pytest.fixture(name='copy')
def copy_fixture(whole, tmp_path):
  return flips.copied(whole, tmp_path / 'run')


RESULTS = ('final_params.npz', 'clients.json', 'accuracy.png', 'partition.png',
           'results.json')


def damage(file, how):
  if how == 'missing':
    file.unlink()
  else:
    flips.flip(file, 8 * 3 + 1)


@pytest.mark.parametrize('how', ['missing', 'changed'])
@pytest.mark.parametrize('name', RESULTS)
def test_a_damaged_result_is_found(copy, name, how):
  damage(copy / name, how)
  if how == 'changed':
    with pytest.raises(ValueError, match=name):
      verify(copy)
  said = run_lib._lacking(copy, kills.ROUNDS, kills.config())
  assert name in said or 'lacks results' in said


def test_results_are_written_again_from_the_checkpoint(whole, copy, capsys):
  for name, how in zip(RESULTS, ['missing', 'changed'] * 2, strict=False):
    damage(copy / name, how)
  assert run(copy) == 0
  assert 'So the results are written again' in capsys.readouterr().out
  assert kills.content(copy) == kills.content(whole)
  assert run(copy) == 0
  assert 'is finished, with 5 rounds' in capsys.readouterr().out


def test_results_of_an_earlier_round_are_written_again(whole, tmp_path, capsys):
  """Killed after the last checkpoint, where there were results of before."""
  folder = tmp_path / 'run'
  assert run(folder, rounds=2) == 0
  early = {name: (folder / name).read_bytes() for name in RESULTS}
  assert run(folder) == 0
  for name, content in early.items():
    (folder / name).write_bytes(content)
  (folder / 'results.json').unlink()  # As whoever goes on begins.
  capsys.readouterr()
  assert run(folder) == 0
  assert 'lacks results. So' in capsys.readouterr().out
  assert kills.content(folder) == kills.content(whole)


def test_other_targets_draw_the_curve_again(copy, capsys):
  assert run(copy, targets=(0.3,)) == 0
  assert 'the curve in' in capsys.readouterr().out
  assert workdir.read_json(copy / 'results.json')['targets'] == [0.3]


def test_records_that_are_lost_are_said_to_be(copy, capsys):
  file = copy / 'metrics.jsonl'
  lines = file.read_bytes().splitlines(keepends=True)
  file.write_bytes(b''.join(lines[:-2]))
  with pytest.raises(ValueError, match='has lost records'):
    verify(copy)
  for again in (False, True):
    assert run(copy, targets=(0.99,)) == 0
    out = capsys.readouterr().out
    assert ('has no record of rounds 4 to 5' in out) != again
    assert re.search('rounds to 99.0% +unknown', out)
    assert re.search('final test accuracy +unknown', out)
    assert 'the records of rounds 4 to 5; what is below is of the others' in out
    assert re.search('bytes up +at least ', out)
  verify(copy)
  # It goes on, and the gap stays.
  assert run(copy, rounds=6) == 0
  found = [one['round'] for one in metrics.read(file)]
  assert found == [0, 1, 2, 3, 6]
  assert metrics.missing_rounds(metrics.read(file), 6) == [4, 5]


def test_a_deleted_metrics_file_is_lost_records(copy, capsys):
  file = copy / 'metrics.jsonl'
  file.unlink()
  assert run(copy) == 0
  out = capsys.readouterr().out
  assert f'{file} has no record of rounds 1 to 5' in out
  assert workdir.read_json(copy / 'results.json')['records'] == 0
  verify(copy)
  assert run(copy, rounds=6) == 0
  assert [one['round'] for one in metrics.read(file)] == [6]


@pytest.mark.slow
def test_results_of_a_sweep_are_written_again(tmp_path, capsys):
  config = digits_quickstart.get_config()
  config.update(rounds=2, model='logistic_regression', devices=1, lanes=5)
  fields = {'client_lr': [0.1, 0.2]}
  go = lambda folder: run_sweep.run(config, 'test', fields, str(folder))
  assert go(tmp_path / 'a') == 0 == go(tmp_path / 'b')
  place = tmp_path / 'b' / 'client_lr=0.2'
  params = (place / 'final_params.npz').read_bytes()
  for damage in (Path.unlink, lambda file: flips.flip(file, 999)):
    damage(place / 'final_params.npz')
    capsys.readouterr()
    with pytest.raises(ValueError, match='final_params.npz is'):
      verify(tmp_path / 'b')
    assert go(tmp_path / 'b') == 0
    assert 'So the results are written again' in capsys.readouterr().out
    assert (place / 'final_params.npz').read_bytes() == params
    verify(tmp_path / 'b')
  config.rounds = 3  # More of them.
  assert go(tmp_path / 'a') == 0
  assert metrics.read(
      tmp_path / 'a' / 'client_lr=0.2' / 'metrics.jsonl')[-1]['round'] == 3
  assert (tmp_path / 'a' / 'client_lr=0.2' / 'final_params.npz'
          ).read_bytes() != params


def test_a_damaged_record_is_lost_and_no_other(copy, capsys):
  file = copy / 'metrics.jsonl'
  lines = file.read_bytes().splitlines(keepends=True)
  file.write_bytes(b''.join([*lines[:2], lines[2].replace(b'0.', b'1.', 1),
                             *lines[3:]]))
  before = file.read_bytes()
  assert run(copy) == 0
  out = capsys.readouterr().out
  assert 'line 3: damaged, and dropped' in out
  assert 'has no record of round 2,' in out
  assert file.read_bytes() == b''.join(lines[:2] + lines[3:])
  assert (copy / 'metrics.jsonl.damaged').read_bytes() == before


def test_leftovers_are_removed_and_nothing_else(whole, copy):
  for name in ('.config.json.99.part', 'checkpoints/.7.part/state/x',
               'client_states/.store.json.99.part'):
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_bytes(b'half')
  assert run(copy) == 0
  assert kills.content(copy) == kills.content(whole)


class _FullDisk:
  """Writes fail from the n-th on."""

  def __init__(self, patch, number):
    self._count, self._number = 0, number
    for name in ('fsync', 'replace', 'rename', 'posix_fallocate'):
      patch.setattr(os, name, self._before(getattr(os, name)))
    opened = builtins.open
    def watched(file, mode='r', *args, **options):
      if set(mode) & set('wax') and str(file) != os.devnull:
        self._event(file)
      return opened(file, mode, *args, **options)
    patch.setattr(builtins, 'open', watched)
    patch.setattr(io, 'open', watched)

  def _event(self, *name):
    self._count += 1
    if self._count >= self._number:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *name)

  def _before(self, function):
    def watched(*args, **options):
      self._event(*([] if isinstance(args[0], int) else args[:1]))
      return function(*args, **options)
    return watched


@pytest.mark.parametrize('number', [
    20, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 8, 50, 90))])
def test_a_full_disk_at_any_write(whole, tmp_path, number):
  folder = tmp_path / 'run'
  with pytest.MonkeyPatch.context() as patch:
    _FullDisk(patch, number)
    with pytest.raises(OSError, match='No space left') as caught:
      run(folder)
  assert Path(caught.value.filename).is_relative_to(folder)
  assert not list(folder.rglob('.*.part'))
  assert run(folder) == 0
  assert kills.content(folder) == kills.content(whole)


@pytest.mark.parametrize('content', [
    b'', b'{}', b'[1]', b'3', b'\xff\xfe{}', b'{"config": 1}', b'[' * 10 ** 5,
    '{"config": {}}'.encode('utf-16')])
def test_an_odd_config(tmp_path, content):
  (tmp_path / 'config.json').write_bytes(content)
  with pytest.raises(ValueError, match='config.json is damaged.*another'):
    run(tmp_path)


@pytest.mark.parametrize('value', [
    {'config': 1, 'resolved': {}, 'environments': []},
    {'config': {}, 'resolved': [], 'environments': []},
    {'config': {}, 'resolved': {}}])
def test_a_config_of_other_types(tmp_path, value):
  workdir.write_json(tmp_path / 'config.json', value)
  with pytest.raises(ValueError, match='not the record of a run'):
    run(tmp_path)


def test_a_config_that_is_a_folder(tmp_path):
  (tmp_path / 'config.json').mkdir()
  with pytest.raises(ValueError, match="json can't be read: Is a directory"):
    run(tmp_path)


def test_flipped_bits_are_never_silently_wrong(whole, tmp_path):
  found = flips.tried(whole, tmp_path / 'run', count=10, seed=0)
  assert found['files'] >= 20 and found['noticed'] > 0.9 * found['flips']


@pytest.mark.long
def test_a_hundred_flipped_bits_of_every_file(whole, tmp_path):
  found = flips.tried(whole, tmp_path / 'run', count=100, seed=1)
  assert found['noticed'] > 0.9 * found['flips']


@pytest.mark.parametrize('count', [
    1, pytest.param(40, marks=pytest.mark.long)])
def test_kills_at_writes(count):
  done = subprocess.run(
      [sys.executable, '-m', 'tests.experiment.kills', f'--moments={count}'],
      capture_output=True, text=True, cwd=ROOT)
  assert done.returncode == 0, done.stderr
  assert f'killed at {count} of' in done.stdout


def test_the_moments_are_spread():
  times = np.r_[np.linspace(0, 9, 90), np.linspace(9.1, 10, 100)]
  chosen = kills.moments(times.tolist(), 40)
  assert len(chosen) == 40 and chosen[0] == 1 and chosen[-1] == 190
  assert sum(times[n - 1] >= 9 for n in chosen) >= 20

"""Callbacks that log: what they hand on, and what they say without a package.
"""

import sys
import types

import pytest

import fedjax_sim as fs

RECORDS = [{'round': 0, 'test/loss': 2.0, 'cohort': ['a'], 'seconds': 1.0},
           {'round': 1, 'train/loss': 1.0, 'test/loss': None, 'seconds': 0.5}]


def test_printing_shows_metrics_of_evaluation_sets_or_those_named():
  lines = []
  fs.callbacks.printing(show=lines.append).log(RECORDS)
  fs.callbacks.printing('seconds', show=lines.append).log(RECORDS)
  assert lines == ['round 0  test/loss 2.0000', 'round 0  seconds 1.0000',
                   'round 1  seconds 0.5000']


def test_tensorboard_events_hold_the_records(tmp_path):
  pytest.importorskip('tensorboardX')
  callback = fs.callbacks.tensorboard(tmp_path / 'events')
  callback.log(RECORDS)
  callback.close()
  (file,) = (tmp_path / 'events').iterdir()
  assert file.read_bytes().count(b'test/loss') == 1
  assert file.read_bytes().count(b'seconds') == 2


def test_services_get_numbers_by_round(monkeypatch):
  logged, ended = [], []
  run = types.SimpleNamespace(
      log=lambda values, step: logged.append((step, values)),
      finish=lambda: ended.append('wandb'), info=types.SimpleNamespace(
          run_id='7'))
  monkeypatch.setitem(sys.modules, 'wandb', types.SimpleNamespace(
      init=lambda project: run))
  monkeypatch.setitem(sys.modules, 'mlflow', types.SimpleNamespace(
      start_run=lambda run_name: run, end_run=lambda: ended.append('mlflow'),
      log_metrics=lambda values, step, run_id: logged.append((step, values))))
  want = [(0, {'test/loss': 2.0, 'seconds': 1.0}),
          (1, {'train/loss': 1.0, 'seconds': 0.5})]
  for callback in (fs.callbacks.wandb(project='p'),
                   fs.callbacks.mlflow(run_name='r')):
    callback.log(RECORDS)
    callback.close()
    assert logged == want
    logged.clear()
  assert ended == ['wandb', 'mlflow']


@pytest.mark.parametrize('name, arguments', [
    ('tensorboard', ('x',)), ('wandb', ()), ('mlflow', ())])
def test_a_package_that_is_missing_is_named(name, arguments, monkeypatch):
  package = {'tensorboard': 'tensorboardX'}.get(name, name)
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(ValueError, match=f'{package} is not installed: pip inst'):
    getattr(fs.callbacks, name)(*arguments)

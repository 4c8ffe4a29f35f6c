"""Whole runs on digits, through the config, as `run.py` starts them."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from configs import default, digits_quickstart
from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients import local_sgd
from fedjax_sim.core.types import ClientOutput
from fedjax_sim.experiment import build_run as build_lib
from fedjax_sim.experiment import (
    build_sweep,
    check_config,
    metrics,
    plots,
    workdir,
)
from fedjax_sim.experiment import run as run_lib
from fedjax_sim.simulation import autotune

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module', autouse=True)
def _own_cache(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('FEDJAX_SIM_CACHE_DIR', str(tmp_path_factory.mktemp('cache')))
    yield


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
  """They take most of a short run; the run called `finished` draws them."""
  monkeypatch.setattr(plots, '_save', lambda figure, path: Path(path).touch())


def small_config(**changes):
  config = digits_quickstart.get_config()
  config.rounds, config.model, config.lanes = 6, 'logistic_regression', 5
  for name, value in changes.items():
    config[name] = value
  return config.lock()


def run(folder, **changes):
  return run_lib.run(small_config(**changes), 'test', workdir_path=folder)


def rows_of(folder):
  """metrics.jsonl without times."""
  rows = metrics.read(Path(folder) / 'metrics.jsonl')
  return [{k: v for k, v in row.items() if k != 'seconds'} for row in rows]


def params_of(folder):
  with np.load(Path(folder) / 'final_params.npz') as arrays:
    return dict(arrays)


def assert_same_run(a, b):
  assert rows_of(a) == rows_of(b)
  x, y = params_of(a), params_of(b)
  assert x.keys() == y.keys() and x
  for name in x:
    np.testing.assert_array_equal(x[name], y[name])


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A run of 6 rounds that nothing disturbed."""
  folder = tmp_path_factory.mktemp('finished')
  assert run(folder) == run_lib.EXIT_DONE
  return folder


def test_the_folder_holds_what_the_readme_names(finished):
  for name in ('config.json', 'metrics.jsonl', 'checkpoints', 'accuracy.png',
               'partition.png', 'final_params.npz', 'clients.json'):
    assert (finished / name).exists(), name
  assert not [p for p in finished.iterdir() if p.name.endswith('.part')]
  record = workdir.read_json(finished / 'config.json')
  assert record['config']['model'] == 'logistic_regression'
  assert record['resolved'] == {
      'devices': 1, 'lanes': 5, 'precision': 'highest'}
  assert 'jax' in record['environments'][0]['versions']
  rows = rows_of(finished)
  assert [row['round'] for row in rows] == list(range(7))
  assert {'test/accuracy', 'test/loss', 'train/loss', 'bytes_up',
          'bytes_down'} <= set(rows[1])
  # 10 clients send and get 65 * 10 floats, and a weight or the round's number.
  assert rows[1]['bytes_up'] == rows[1]['bytes_down'] == 10 * (650 + 1) * 4
  assert set(params_of(finished)) == {'params/dense_0/kernel',
                                      'params/dense_0/bias'}


def test_it_learns(finished):
  assert rows_of(finished)[-1]['test/accuracy'] > 0.3  # chance is 0.1


def test_again_says_finished_and_shows_the_table(finished, capsys):
  before = (finished / 'metrics.jsonl').read_bytes()
  assert run(finished) == run_lib.EXIT_DONE
  out = capsys.readouterr().out
  assert 'is finished, with 6 rounds' in out and 'best test accuracy' in out
  assert (finished / 'metrics.jsonl').read_bytes() == before


def test_fewer_rounds_than_a_folder_has_done_are_refused(finished):
  before = (finished / 'metrics.jsonl').read_bytes()
  with pytest.raises(ValueError, match='config.rounds must be .*6.*got 3'):
    run(finished, rounds=3)
  assert (finished / 'metrics.jsonl').read_bytes() == before


def test_a_finished_run_can_be_extended(finished, tmp_path):
  assert run(tmp_path, rounds=3) == run_lib.EXIT_DONE
  assert run(tmp_path) == run_lib.EXIT_DONE
  assert_same_run(tmp_path, finished)


def test_rounds_per_dispatch_and_checkpoints_do_not_matter(finished, tmp_path):
  run(tmp_path, rounds_per_dispatch=4, checkpoint_seconds=0.0)
  assert_same_run(tmp_path, finished)


def test_a_run_with_another_precision_is_another_run(tmp_path):
  run(tmp_path, rounds=1)
  with pytest.raises(
      ValueError, match="precision: 'auto' there, 'tensorfloat32' now"):
    run(tmp_path, precision='tensorfloat32')
  other = workdir.as_json(small_config(precision='highest').to_dict())
  assert workdir.short_hash(other) != workdir.short_hash(
      other | {'precision': 'auto'})


def test_a_run_from_before_there_was_a_choice_goes_on(finished, tmp_path):
  run(tmp_path, rounds=3)
  record = workdir.read_json(tmp_path / 'config.json')
  name = workdir.short_hash(record['config'])
  del record['config']['precision'], record['resolved']['precision']
  assert workdir.short_hash(record['config']) == name
  workdir.write_json(tmp_path / 'config.json', record)
  run(tmp_path)
  assert_same_run(tmp_path, finished)


def test_a_run_keeps_its_precision_on_another_device():
  """From a GPU, whose default it was, to a CPU, where it means float32."""
  record = {'config': {'devices': 'auto', 'lanes': 'auto', 'precision': 'auto'},
            'resolved': {'devices': 1, 'lanes': 4,
                         'precision': 'tensorfloat32'}}
  assert build_lib.shape_before(record, build_lib.Shape('auto', 'auto')) == (
      1, 4, 'tensorfloat32')


def test_measured_lanes_are_kept_when_a_run_goes_on(tmp_path, monkeypatch):
  fastest = lambda make, *args: (make(1, 3), 'test')
  monkeypatch.setattr(autotune, 'choose', fastest)
  run(tmp_path, lanes='auto', rounds=2)
  record = workdir.read_json(tmp_path / 'config.json')
  assert record['resolved'] == {
      'devices': 1, 'lanes': 3, 'precision': 'highest'}
  monkeypatch.undo()
  def given(make, cohort, devices, lanes, *job):
    assert (devices, lanes) == (1, 3)
    return make(1, 3), 'given'
  monkeypatch.setattr(autotune, 'choose', given)
  run(tmp_path, lanes='auto')
  assert rows_of(tmp_path)[-1]['round'] == 6


def test_another_config_is_refused_with_the_difference(finished):
  before = sorted((p, p.stat().st_mtime_ns) for p in finished.rglob('*'))
  with pytest.raises(ValueError) as caught:
    run(finished, client_lr=0.2, local_epochs=2)
  assert 'client_lr: 0.1 there, 0.2 now' in str(caught.value)
  assert 'local_epochs: 1 there, 2 now' in str(caught.value)
  after = sorted((p, p.stat().st_mtime_ns) for p in finished.rglob('*'))
  changed = {p.name for p, _ in set(after) ^ set(before)}
  assert changed <= {finished.name, '.lock'}


def test_dry_run_writes_nothing(tmp_path, capsys):
  folder = tmp_path / 'new'
  code = run_lib.run(small_config(), 'test', workdir_path=folder,
                     dry_run=True)
  out = capsys.readouterr().out
  assert code == 0 and not folder.exists()
  assert '650 parameters' in out and 'FLOP' in out and 'memory' in out
  # Forward and backward of a 64 x 10 product are about 4 * 640 operations.
  flops = float(re.search(r'([\d.e-]+) MFLOP', out)[1]) * 1e6
  assert 0.5 < flops / (4 * 640) < 4
  # 650 numbers of 4 bytes each way.
  assert 'receives 2.6 kB and sends 2.6 kB' in out


def test_dry_run_of_several_models_counts_the_work_on_one(tmp_path, capsys):
  costs = []
  for algorithm in ('fedavg', 'ifca(clusters=2)'):
    config = small_config()
    config.algorithm = algorithm
    assert run_lib.run(config, 'test', workdir_path=tmp_path / 'new',
                       dry_run=True) == 0
    costs.append(re.search(r'([\d.e-]+) MFLOP', capsys.readouterr().out)[1])
  assert costs[0] == costs[1]


@pytest.mark.parametrize('field,value,message', [
    ('dataset', 'mnits', 'mnist'),
    ('model', 'resnet', 'mnist_2nn'),
    ('partition', 'dirichlett', 'dirichlet'),
    ('algorithm', 'fedproxx', 'fedprox'),
    ('loss', 'cros_entropy', 'cross_entropy'),
    ('client_optimizer', 'sdg', 'sgd'),
    ('weighting', 'size', 'examples'),
    ('on_divergence', 'pause', 'continue'),
    ('client_state', 'disk', 'stored'),
    ('precision', 'fp16', 'tensorfloat32'),
    ('precision', 'bfloat16', 'on a CPU'),
    ('client_fraction', 1.2, r'\[0, 1\]'),
    ('client_fraction', -0.1, r'\[0, 1\]'),
    ('client_test_fraction', 1.5, r'\[0, 1\]'),
    ('clients_per_round', 21, 'num_clients = 20'),
    ('batch_size', 0, '>= 1'),
    ('local_epochs', 0, 'positive'),
    ('rounds', 0, '>= 1'),
    ('lanes', 0, '>= 1'),
    ('client_lr', 0.0, 'positive and finite'),
    ('client_lr', float('nan'), 'positive and finite'),
    ('client_lr', float('inf'), 'positive and finite'),
    ('server_lr', -1.0, 'positive and finite'),
    ('targets', (1.7,), r'\[0, 1\]'),
])
def test_bad_fields_are_named_before_any_work(field, value, message, tmp_path):
  folder = tmp_path / 'new'
  with pytest.raises(ValueError, match=message) as caught:
    run(folder, **{field: value})
  assert field in str(caught.value) and repr(value) in str(caught.value) or (
      field == 'targets')
  assert not (folder / 'metrics.jsonl').exists()


def test_shards_that_do_not_divide(tmp_path):
  with pytest.raises(ValueError, match='shards'):
    run(tmp_path / 'new' / 'one', partition='shards(2)',
        num_clients=20)  # 1,437 examples are not 40 equal shards
  assert not any(tmp_path.iterdir())  # Nothing is left of what was made.


def test_workdir_that_cannot_be_written(tmp_path):
  file = tmp_path / 'file'
  file.write_text('')
  with pytest.raises(ValueError, match="can't be written"):
    run(file / 'under')


def test_a_folder_with_foreign_results_is_refused(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"round": 1}\n')
  with pytest.raises(ValueError, match='metrics.jsonl'):
    run(tmp_path)
  assert (tmp_path / 'metrics.jsonl').read_text() == '{"round": 1}\n'


def test_two_runs_in_one_folder(tmp_path):
  from fedjax_sim.experiment import loop
  with loop.exclusive(tmp_path):
    with pytest.raises(ValueError, match='in use by another process'):
      run(tmp_path)


def test_a_run_goes_on_from_before_a_damaged_checkpoint(
    finished, tmp_path, capsys):
  run(tmp_path, rounds=3)
  run(tmp_path, rounds=5)
  (damaged,) = (tmp_path / 'checkpoints').glob('5')
  for path in damaged.rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
  assert run(tmp_path) == run_lib.EXIT_DONE
  out = capsys.readouterr().out
  assert re.search(r"5 can't be used: .*damaged.* before it is that of round 3"
                   r'\. It is kept as 5\.damaged', out)
  assert 'resumed after round 3' in out
  assert (tmp_path / 'checkpoints' / '5.damaged').is_dir()
  assert_same_run(tmp_path, finished)


def test_damaged_checkpoints_alone_stop_a_run_before_it_drops_metrics(
    tmp_path):
  run(tmp_path, rounds=3)
  (damaged,) = (tmp_path / 'checkpoints').glob('3')
  (damaged / 'manifest.json').unlink()
  for _ in range(2):
    with pytest.raises(ValueError, match='There is no good one before it'):
      run(tmp_path)
  assert len(rows_of(tmp_path)) == 1 + 3


def test_tensorboard_without_its_package_is_told_at_once(tmp_path, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ValueError, match='tensorboard = True needs tensorboardX'):
    run(tmp_path / 'new', tensorboard=True)
  assert not (tmp_path / 'new').exists()


def test_divergence_stops_with_a_good_checkpoint(tmp_path, capsys):
  code = run(tmp_path, client_lr=1e30, model='mnist_2nn',
             checkpoint_seconds=0.0)
  out = capsys.readouterr().out
  assert code == run_lib.EXIT_DIVERGED == 2
  assert 'NaN or infinity in round' in out and 'of clients' in out
  assert 'checkpoint' in out
  for row in rows_of(tmp_path):
    assert np.isfinite([v for v in row.values() if v is not None]).all()


def test_divergence_can_be_told_to_continue(tmp_path, capsys):
  code = run(tmp_path, client_lr=1e30, model='mnist_2nn',
             on_divergence='continue')
  assert code == run_lib.EXIT_DONE
  assert rows_of(tmp_path)[-1]['round'] == 6
  assert 'NaN or infinity' in capsys.readouterr().out


def test_hash_leaves_out_what_does_not_change_a_round():
  base = workdir.as_json(default.get_config().to_dict())
  free = {'rounds': 7, 'eval_every': 2, 'lanes': 3, 'data_dir': '/x',
          'targets': [0.5], 'checkpoint_seconds': 1.0}
  assert workdir.short_hash({**base, **free}) == workdir.short_hash(base)
  for field in ('seed', 'client_lr', 'partition', 'local_epochs'):
    assert workdir.short_hash({**base, field: 99}) != workdir.short_hash(base)


def test_a_run_goes_on_with_another_spelling_of_its_specs(tmp_path):
  run(tmp_path, rounds=1, partition='dirichlet(1)')
  assert run(tmp_path, partition='dirichlet( alpha = 1 )') == run_lib.EXIT_DONE
  with pytest.raises(ValueError, match=r"partition: 'dirichlet\(alpha=1\)' th"):
    run(tmp_path, partition='dirichlet(2)')


def test_a_part_of_the_test_examples(tmp_path):
  run(tmp_path, rounds=1, test_examples=50)
  accuracy = rows_of(tmp_path)[-1]['test/accuracy']
  assert round(accuracy * 50, 4) == round(accuracy * 50)
  with pytest.raises(ValueError, match='test_examples must be at most'):
    run(tmp_path / 'other', test_examples=10 ** 6)


def start(folder):
  """run.py, with a checkpoint after each dispatch of three rounds."""
  return subprocess.Popen(
      [sys.executable, str(ROOT / 'run.py'),
       f'--config={ROOT}/configs/digits_quickstart.py',
       f'--workdir={folder}', '--config.rounds=200', '--config.devices=1',
       '--config.model=logistic_regression', '--config.lanes=5',
       '--config.rounds_per_dispatch=3', '--config.checkpoint_seconds=0'],
      stdout=subprocess.PIPE, text=True)


def wait_for_rounds(folder, number, process):
  """Until metrics.jsonl has that many lines."""
  file = Path(folder) / 'metrics.jsonl'
  for _ in range(1200):
    if file.exists() and file.read_bytes().count(b'\n') >= number:
      return
    assert process.poll() is None, 'the run ended before it could be stopped'
    time.sleep(0.05)
  raise AssertionError('no progress')


@pytest.mark.bits
def test_a_run_goes_on_bit_for_bit_after_a_kill_and_after_ctrl_c(tmp_path):
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  process = start(cut)
  wait_for_rounds(cut, 40, process)
  process.kill()
  assert process.wait() == -signal.SIGKILL
  process = start(cut)
  wait_for_rounds(cut, 70, process)
  process.send_signal(signal.SIGINT)
  out, _ = process.communicate(timeout=60)
  assert process.returncode == run_lib.EXIT_STOPPED
  assert 'the same command goes on from here' in out
  done = rows_of(cut)[-1]['round']
  assert 69 <= done < 200  # The first line is that of round 0.
  assert str(done) in os.listdir(cut / 'checkpoints')
  for folder in (cut, whole):
    run(folder, rounds=200, devices=1)
  assert_same_run(cut, whole)


def test_a_wrong_command_is_told_in_one_line():
  """`fuzz_config_test` has many more."""
  done = subprocess.run(
      [sys.executable, str(ROOT / 'run.py'), '--config=configs/mnist_iid.py',
       '--config.client_rl=0.1'], capture_output=True, text=True, cwd=ROOT)
  assert done.returncode == 1
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
  assert 'client_rl' in done.stderr and 'client_lr' in done.stderr


def test_a_run_that_failed_while_set_up_can_be_started_again(tmp_path):
  """The same error again, and then a run, in the same folder."""
  for _ in range(2):
    with pytest.raises(ValueError, match='must divide the number'):
      run(tmp_path, partition='shards(7)')
  assert run(tmp_path) == run_lib.EXIT_DONE


def personal(config, model, **options):
  """FedAvg whose clients keep the mean of their models."""
  def client(server, state, own, key):
    local = local_sgd.run_sgd(model, optax.sgd(0.1), server.variables, own, key,
                              batch_size=10)
    message = local_sgd.difference(local.variables, server.variables, own.size)
    state = jax.tree.map(lambda a, b: (a + b) / 2, state, local.variables)
    return ClientOutput(message, state, local.metrics)
  return from_client_update(client)._replace(
      client_init=lambda variables: variables,
      personalize=lambda state, own, data, key: own)


@pytest.mark.slow
def test_client_states_on_disk(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(build_lib, 'make_algorithm', personal)
  device, disk = tmp_path / 'device', tmp_path / 'disk'
  run(device, client_state='device')
  assert not (device / 'client_states').exists()
  assert '2.6 kB a client, 52.0 kB in all, on the devices' in (
      capsys.readouterr().out)
  # Where states are may change: it does not change a round.
  for rounds, where in ((2, 'stored'), (4, 'device'), (6, 'stored')):
    run(disk, client_state=where, rounds=rounds)
  assert (disk / 'client_states' / 'records.bin').exists()
  assert_same_run(disk, device)
  a, b = (workdir.read_json(f / 'clients.json') for f in (disk, device))
  assert a == pytest.approx(b, rel=1e-6) and a['accuracy/mean'] > 0.3
  with pytest.raises(ValueError, match="client_state must be 'auto' or 'dev"):
    build_sweep.build_sweep(
        small_config(client_state='stored'), [{'seed': 0, 'client_lr': 0.1}])


def test_data_dir_that_is_not_there():
  with pytest.raises(ValueError, match="data_dir must be a folder.*'/nodir'"):
    check_config.validate(small_config(data_dir='/nodir'))

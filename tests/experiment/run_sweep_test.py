"""`run.py --sweep`: runs equal those of their own, stop and resume."""

import json

import jax
import numpy as np
import pytest

from fedjax_sim.experiment import (
    client_history,
    loop,
    metrics,
    plots,
    run_sweep,
    sweep_csv,
    sweep_report,
    sweep_settings,
    workdir,
)
from fedjax_sim.experiment import run as run_lib
from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.simulation import drive
from tests.experiment.run_test import assert_same_run, small_config


@pytest.fixture(autouse=True)
def _one_figure(monkeypatch):
  """They take much of short runs: that of all runs is drawn."""
  save = plots._save
  monkeypatch.setattr(plots, '_save', lambda figure, path: (
      save(figure, path) if path.name == 'sweep.png' else path.touch()))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
  monkeypatch.setenv(
      'FEDJAX_SIM_CACHE_DIR', str(tmp_path_factory.mktemp('cache')))


def run(folder, texts, **changes):
  config = small_config(**changes)
  return run_sweep.run(
      config, 'test', sweep_settings.parse(config, texts), str(folder))


def metrics_of(folder):
  """By the name of the run."""
  return {file.parent.name: file
          for file in sorted(folder.glob('*/metrics.jsonl'))}


def rows_of(file):
  keys = ('round', 'train/loss', 'test/loss', 'test/accuracy', 'clients')
  return [{k: row[k] for k in keys if k in row} for row in metrics.read(file)]


def lanes_of(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return {json.loads(line)['lanes'] for line in lines[1:]}


def cohorts_of(folder):
  return [row.get('cohort') for row in metrics.read(folder / 'metrics.jsonl')]


def best_of(folder):
  """The best model, its round and value."""
  return dict(np.load(folder / 'best_params.npz'))


def assert_close(got, want):
  assert [r['round'] for r in got] == [r['round'] for r in want]
  for a, b in zip(got, want, strict=True):
    assert a == pytest.approx(b, rel=1e-5)


def test_runs_equal_those_of_their_own(tmp_path, capsys):
  texts = ['client_lr=0.1,0.3', 'seed=0,2', 'local_epochs=1,2']
  more = {'lanes': 3, 'record_cohort': True, 'best_metric': 'test/loss',
          'client_eval_every': 4}
  assert run(tmp_path / 'sweep', texts, **more) == 0
  told = capsys.readouterr().out
  assert (tmp_path / 'sweep' / 'sweep.png').stat().st_size > 1000
  head, *lines = (tmp_path / 'sweep' / 'sweep.csv').read_text().splitlines()
  assert head.startswith('client_lr,seed,local_epochs,round,')
  assert len(lines) == 8 * 7 and '± ' in told
  for rate, seed, epochs in ((0.1, 2, 1), (0.3, 0, 2)):
    label = f'client_lr={rate:g},seed={seed},local_epochs={epochs}'
    own = tmp_path / label
    run_lib.run(
        small_config(client_lr=rate, seed=seed, local_epochs=epochs, **more),
        'test', workdir_path=str(own))
    got = rows_of(tmp_path / 'sweep' / label / 'metrics.jsonl')
    for name in ('metrics.jsonl', 'clients.json', 'accuracy.png',
                 'final_params.npz'):
      assert (tmp_path / 'sweep' / label / name).exists() and (
          own / name).exists()
    assert_close(got, rows_of(own / 'metrics.jsonl'))
    assert cohorts_of(tmp_path / 'sweep' / label) == cohorts_of(own)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(
        a, b, rtol=1e-4, atol=1e-6), best_of(tmp_path / 'sweep' / label),
                 best_of(own))
    tables = [client_history.read(folder / client_history.FILE)
              for folder in (tmp_path / 'sweep' / label, own)]
    assert tables[0].rounds.tolist() == [0, 4, 6]
    assert tables[0].client_ids == tables[1].client_ids
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
                 tables[0].values, tables[1].values)
    assert lanes_of(tmp_path / 'sweep' / label) == {3}
    best = max(row['test/accuracy'] for row in got)
    assert any(label in line and f'{best:.4f}' in line
               for line in told.splitlines())


class Killed(Exception):
  """Stands for a kill."""


def test_a_killed_sweep_goes_on(tmp_path, monkeypatch):
  texts = ['client_lr=0.1,10.0,30.0']
  options = {'rounds': 12, 'checkpoint_seconds': 0.0,
             'best_metric': 'test/loss', 'client_eval_every': 5}
  run(tmp_path / 'whole', texts, **options)
  monkeypatch.setattr(drive, '_DISPATCH_SECONDS', 0.0)
  saved = Checkpoints.save

  def save_and_die(self, number, state, notes):
    if state.done.max() == 5:
      raise Killed  # After the metrics of round 5, before its checkpoint.
    saved(self, number, state, notes)

  with monkeypatch.context() as patch:
    patch.setattr(Checkpoints, 'save', save_and_die)
    with pytest.raises(Killed):
      run(tmp_path / 'killed', texts, **options)
  files = metrics_of(tmp_path / 'killed')
  assert [len(rows_of(f)) for f in files.values()] == [6, 6, 6]
  first = {name: f.read_bytes().splitlines()[:4] for name, f in files.items()}
  with pytest.raises(ValueError, match='config.rounds must be .*4.*got 3'):
    run(tmp_path / 'killed', texts, **options | {'rounds': 3})
  assert run(tmp_path / 'killed', texts, **options) == 0
  lowest = []
  for name, whole in metrics_of(tmp_path / 'whole').items():
    assert files[name].read_bytes().splitlines()[:4] == first[name]
    assert rows_of(files[name]) == rows_of(whole)  # To the bit.
    tables = [(folder / client_history.FILE).read_bytes()
              for folder in (whole.parent, files[name].parent)]
    assert tables[0] == tables[1]  # Round 5 was there before the kill too.
    losses = {row['round']: row['test/loss'] for row in rows_of(whole)}
    best = best_of(whole.parent)
    lowest.append(min(losses, key=losses.get))
    assert (best['round'], best['value']) == (lowest[-1], losses[lowest[-1]])
    jax.tree.map(
        np.testing.assert_array_equal, best_of(files[name].parent), best)
  assert min(lowest) < 5 < max(lowest)  # One is from before the kill.
  # A third time there is nothing left to do.
  monkeypatch.setattr(loop, 'train', None)
  assert run(tmp_path / 'killed', texts, **options) == 0
  with pytest.raises(ValueError, match='config.rounds must be .*12.*got 11'):
    run(tmp_path / 'killed', texts, **options | {'rounds': 11})


def test_a_sweep_of_one_is_a_run_to_the_bit(tmp_path):
  assert run(tmp_path / 'sweep', ['seed=2'], devices=1) == 0
  assert run_lib.run(small_config(seed=2, devices=1), 'test',
                     workdir_path=tmp_path / 'own') == 0
  assert_same_run(tmp_path / 'sweep' / 'seed=2', tmp_path / 'own')


def test_who_diverges_is_told(tmp_path, capsys):
  assert run(tmp_path / 'sweep', ['client_lr=0.1,3e38']) == 0
  told = capsys.readouterr().out
  assert 'client_lr=3e+38: diverged in round 1' in told
  assert len(rows_of(
      tmp_path / 'sweep' / 'client_lr=0.1' / 'metrics.jsonl')) == 1 + 6


def test_who_diverges_and_goes_on_is_evaluated(tmp_path):
  assert run(tmp_path, ['client_lr=0.1,3e38'], rounds=2, client_eval_every=1,
             on_divergence='continue') == 0
  for rate in ('0.1', '3e+38'):
    table = client_history.read(
        tmp_path / f'client_lr={rate}' / client_history.FILE)
    assert table.rounds.tolist() == [0, 1, 2]


@pytest.mark.parametrize('text, message', [
    ('client_lr', 'sweep must be field=value'),
    ('client_rl=0.1', 'sweep must be one of'),
    ('client_lr=a,b', 'client_lr must be of type float'),
    ('client_lr=0.1,0.1', 'the values of client_lr must differ'),
    ('client_lr=0.1,-1', 'client_lr must be positive'),
    ('seed=0,-1', 'seed must be a whole number from 0 to 2'),
    ('seed=0,0.5', 'seed must be of type int'),
    ('algorithm=ditto(lam=1),ditto(lam=-1)', 'lam must be'),
    ('batch_size=10,0', 'batch_size must be a whole number >= 1')])
def test_bad_sweeps_are_told_before_any_work(tmp_path, text, message):
  with pytest.raises(ValueError, match=message):
    run(tmp_path / 'sweep', [text])
  assert not (tmp_path / 'sweep').exists()


@pytest.mark.slow
def test_clients_own_accuracy_tells_personal_models_apart(tmp_path, capsys):
  """As a run of its own tells it; the common model's doesn't."""
  run(tmp_path / 'sweep', ['algorithm=ditto(lam=0.01),ditto(lam=100)'],
      client_test_fraction=0.3)
  told = capsys.readouterr().out
  own = {lam: workdir.read_json(
      tmp_path / 'sweep' / f'algorithm=ditto(lam={lam})' /
      'clients.json')
      for lam in ('0.01', '100')}
  for lam, one in own.items():
    (line,) = [line for line in told.splitlines()
               if line.startswith(f'algorithm=ditto(lam={lam}) ')]
    assert f'{one["accuracy/mean"]:.4f}' in line
  assert own['0.01'] != own['100']
  run_lib.run(
      small_config(algorithm='ditto(lam=0.01)', client_test_fraction=0.3),
      'test', workdir_path=str(tmp_path / 'own'))
  want = workdir.read_json(tmp_path / 'own' / 'clients.json')
  assert own['0.01'] == pytest.approx(want, rel=1e-5)


def test_who_has_diverged_is_told_again_and_not_run_again(
    tmp_path, monkeypatch, capsys):
  texts, options = ['client_lr=0.1,3e38'], {'checkpoint_seconds': 0.0}
  saved = Checkpoints.save

  def save_and_die(self, number, state, notes):
    saved(self, number, state, notes)
    raise Killed

  with monkeypatch.context() as patch:
    patch.setattr(Checkpoints, 'save', save_and_die)
    with pytest.raises(Killed):
      run(tmp_path, texts, **options)
  capsys.readouterr()
  assert run(tmp_path, texts, **options) == 0
  told = capsys.readouterr().out
  assert told.count('diverged in round') == 1
  assert 'client_lr=3e+38: diverged in round 1\n' in told
  assert len(rows_of(tmp_path / 'client_lr=0.1' / 'metrics.jsonl')) == 1 + 6


def test_cores_are_devices_before_the_checks_compute(tmp_path, monkeypatch):
  called = []
  monkeypatch.setattr(run_sweep, 'use_all_cores', lambda: called.append('all'))

  def check(groups):
    assert called == ['all']
    raise ValueError('checked')

  monkeypatch.setattr(run_sweep.build_sweep, 'check', check)
  with pytest.raises(ValueError, match='^checked$'):
    run(tmp_path, ['batch_size=10,20'])


def test_a_sweep_that_is_refused_leaves_no_folder(tmp_path):
  (tmp_path / 'kept').mkdir()
  for folder in ('new', 'kept'):
    with pytest.raises(ValueError, match='devices must be'):
      run(tmp_path / folder, ['seed=0'], devices=99)
  assert [path.name for path in tmp_path.iterdir()] == ['kept']


def test_another_sweep_in_the_folder(tmp_path):
  run(tmp_path / 'sweep', ['client_lr=0.1,0.3'], rounds=1)
  with pytest.raises(ValueError, match='holds another run'):
    run(tmp_path / 'sweep', ['client_lr=0.1,0.2'], rounds=1)


def test_median_over_seeds():
  runs = [[{'round': 1, 'test/accuracy': a}, {'round': 2, 'test/accuracy': b}]
          for a, b in ((0.1, 0.5), (0.2, 0.4), (0.9, 0.6))]
  runs[2] = runs[2][:1]
  rows = sweep_report.median(runs)
  assert [row['round'] for row in rows] == [1]
  np.testing.assert_allclose(rows[0]['test/accuracy'], 0.2)
  assert rows[0].keys() == {'round', 'test/accuracy'}


def test_bytes_of_a_median_are_those_of_all_rounds():
  """Totals of three seeds, also of rounds without an evaluation."""
  runs = [[{'round': r, 'bytes_up': up, 'bytes_down': 1}
           | ({'test/accuracy': 0.1} if r != 2 else {}) for r in (1, 2, 3)]
          for up in (10, 20, 60)]
  rows = sweep_report.median(runs)
  assert [(row['round'], row['bytes_up'], row['bytes_down']) for row in rows
          ] == [(1, 20, 1), (3, 40, 2)]


def test_runs_of_other_lengths_have_not_diverged(tmp_path, capsys):
  """A sweep over `rounds`: each is finished after its own."""
  done = {'rounds=2': 2, 'rounds=4': 4, 'bad': 1}
  for label, number in done.items():
    (tmp_path / label).mkdir()
    metrics.append(tmp_path / label / 'metrics.jsonl', [
        {'round': r, 'test/accuracy': 0.1 * r} for r in range(number + 1)])
  sweep_report.write(
      tmp_path, {label: label for label in done},
      {'rounds=2': 2, 'rounds=4': 4, 'bad': 2}, [0.15], held_out=False)
  lines = {line.split()[0]: line.split()[1:]
           for line in capsys.readouterr().out.splitlines()[1:]}
  assert lines['rounds=2'] == ['2', '0.2000', '0.2000', '1.5']
  assert lines['rounds=4'] == ['4', '0.4000', '0.4000', '1.5']
  assert lines['bad'][:3] == ['diverged', 'after', '1']
  assert not (tmp_path / 'sweep_by_bytes.png').exists()


def test_the_table_has_the_spread_over_seeds(tmp_path, capsys):
  """Of finished runs; the sample deviation of two values is |a - b| / 2^0.5."""
  best = {'lr=1,seed=0': 0.2, 'lr=1,seed=1': 0.4, 'lr=1,seed=2': 0.9,
          'lr=2,seed=0': 0.5}
  for label, value in best.items():
    (tmp_path / label).mkdir()
    rounds = (1, 2) if value < 0.9 else (1,)  # That one has diverged.
    metrics.append(tmp_path / label / 'metrics.jsonl', [
        {'round': r, 'test/accuracy': value / r} for r in rounds])
  sweep_report.write(
      tmp_path, {label: label.partition(',')[0] for label in best},
      dict.fromkeys(best, 2), [], held_out=False)
  *_, heading, row = capsys.readouterr().out.splitlines()
  assert heading.split()[-3:] == ['runs', 'best', 'final']
  assert row.split() == [
      'lr=1', '2', '0.3000', '±', '0.1414', '0.1500', '±', '0.0707']


def test_all_records_are_in_one_table(tmp_path):
  settings = {f'lanes={n}': {'lanes': n, 'algorithm': 'a, b'} for n in (1, 2)}
  for label, value in zip(settings, (0.5, None), strict=True):
    (tmp_path / label).mkdir()
    metrics.append(tmp_path / label / 'metrics.jsonl', [
        {'round': 1, 'test/loss': value, 'lanes': 7.0, 'cohort': ['a']}])
  sweep_csv.write(tmp_path, settings)
  assert (tmp_path / sweep_csv.FILE).read_text() == (
      'lanes,algorithm,round,test/loss\n'
      '1,"a, b",1,0.5\n2,"a, b",1,\n')

"""What the benchmark scripts do with results; no measurements here."""

import json
import math

import numpy as np
import pytest

from benchmarks import (
    configs,
    contenders,
    personalization,
    speed,
    sweep,
    tasks,
    topologies,
)
from benchmarks.algorithms import __main__ as comparison
from benchmarks.algorithms import entries, report, times, traffic
from benchmarks.peers import link
from fedjax_sim.data.sets import load as load_lib


def result(seed, rounds, accuracy):
  return {'config': 'mnist_iid', 'fields': [], 'seed': seed, 'rounds': 100,
          'rounds_to_target': rounds, 'final_accuracy': accuracy}


def test_pages_show_the_committed_results():
  assert configs.report() == configs.PAGE.read_text()
  assert sweep.report() == sweep.PAGE.read_text()
  assert topologies.report() == topologies.PAGE.read_text()
  assert speed.report() == (speed.ROOT / 'README.md').read_text()
  page = speed.ROOT / 'docs' / 'scaling.md'
  assert speed.report(page, 'processes', speed.PROCESSES) == page.read_text()


def test_the_page_of_algorithms_shows_the_committed_results():
  text = (report.DOCS / 'algorithms.md').read_text()
  known, own_times = comparison.measured(), comparison.read(times.RESULTS)
  assert len(known) == len(entries.ENTRIES) and own_times.keys() == known.keys()
  moved = comparison.read(traffic.RESULTS)
  assert report.page(known, own_times, moved, text) == text


def test_algorithms_have_the_same_budget_for_tuning():
  for entry in entries.ENTRIES:
    assert math.prod(map(len, entry.grid.values())) == 8, entry.name


def test_a_setting_that_fails_with_a_seed_is_not_the_end(monkeypatch):
  """The next ones are looked at, until one gets there with all seeds."""
  good, bad = [0.7, 0.9], [0.7, 0.7]
  curves = {0.1: (good, bad), 0.2: (good, good), 0.3: (good, good)}

  class State:
    def of(self, i):
      return i

  def run(task, make, members):
    return comparison.Outcome(
        [curves[m.hyperparameters['rate']][1] for m in members], State())

  monkeypatch.setattr(comparison, 'run', run)
  settings = [{'rate': rate} for rate in curves]
  tuning = comparison.Outcome([good, good, bad], State())
  looks = comparison.looks(None, None, settings, tuning, 'rounds')
  assert [look.setting['rate'] for look in looks] == [0.1, 0.2]
  assert looks[0].rounds == pytest.approx([1.5, math.inf, math.inf])
  assert looks[1].rounds == pytest.approx([1.5, 1.5, 1.5])


def test_a_run_that_missed_its_target_says_so():
  text = configs.table([result(0, 46.04, 0.9777), result(1, None, 0.961)])
  (line,) = text.splitlines()[2:]
  assert '46.0, not reached' in line and '97.77%, 96.10% after 100' in line


TASK = tasks.TASKS['mnist_2nn']


def measured(seconds, accuracy):
  return {'device': 'cpu', 'seconds': seconds, 'accuracy': accuracy}


def test_a_ratio_is_the_median_over_turns_not_of_all_times():
  # A slow machine in the third turn is slow for both.
  summary = speed.summary(TASK, {
      'ours': measured([1.0, 1.0, 10.0], 0.94),
      'torch': measured([3.0, 4.0, 30.0], 0.93),
      'jax': measured([2.0], 0.94 + TASK.band + 0.01)})
  assert summary['torch']['ratio'] == 3 and summary['torch']['valid']
  assert summary['torch']['median'] == 4 and summary['ours']['ratio'] == 1
  assert summary['jax']['ratio'] == 2 and not summary['jax']['valid']


def line(task, **ratios):
  return {'task': task._asdict(), 'contenders': {
      name: {'device': 'cpu', 'ratio': ratio, 'valid': ratio > 0}
      for name, ratio in ratios.items()}}


def test_the_speed_table_shows_the_last_standard_run_of_each_task():
  text = speed.table([
      line(TASK, ours=1, torch=99), line(TASK, ours=1, torch=4.26, pfl=0),
      line(TASK._replace(clients=100), ours=1, torch=77),
      line(tasks.TASKS['mnist_cnn'], ours=1, torch=12.3),
      line(tasks.TASKS['mnist_cnn'], torch=5)])
  head, _, *rows = text.splitlines()
  assert head == '| | MNIST 2NN | MNIST CNN |'
  assert rows == [
      '| fedjax_sim | 1.0 | 1.0 |',
      f'| {contenders.CONTENDERS["torch"].title} | 4.3 | 12 |',
      '| pfl-research | invalid | - |']


def test_without_results_there_is_no_table():
  assert speed.table([]) == ''


def test_every_contender_has_a_worker_and_pinned_requirements():
  for contender in contenders.CONTENDERS.values():
    peers = contenders.REQUIREMENTS.parent
    assert (peers / f'{contender.module}.py').exists()
    if contender.environment:
      file = contenders.REQUIREMENTS / f'{contender.environment}.txt'
      assert all('==' in row for row in file.read_text().splitlines())


def test_workers_get_the_same_arrays_and_cohorts(tmp_path, monkeypatch):
  task = tasks.TASKS['char_lstm']._replace(clients=3)
  tasks.write_arrays(task, tmp_path / 'a.npz')
  (tmp_path / 'job.json').write_text(json.dumps({
      'task': task._asdict(), 'cores': 2, 'options': {},
      'data': str(tmp_path / 'a.npz')}))
  job = link.read_job(str(tmp_path / 'job.json'))
  assert job.task.name == task.name and job.cohorts.shape[1:] == (3,)
  assert job.x.shape == job.y.shape == (100, 40, 80)
  np.testing.assert_array_equal(job.x[..., 1:], job.y[..., :-1])
  assert not (job.cohorts[0] == job.cohorts[1]).all()


def test_partial_batches_are_refused():
  with pytest.raises(ValueError, match='examples = 600 .* batch_size = 64'):
    tasks.write_arrays(TASK._replace(batch_size=64), '')


def test_evaluation_counts_every_label_and_loss_is_in_nats():
  labels = np.arange(1203) % 4
  logits = np.log([0.5, 0.3, 0.1, 0.1])
  result = link.evaluate(
      lambda x: np.broadcast_to(logits, (len(x), 4)), labels, labels)
  assert result['accuracy'] == np.mean(labels == 0)
  np.testing.assert_allclose(result['loss'], -logits[labels].mean())


def test_clients_that_are_unseen_share_nothing_with_the_others(monkeypatch):
  examples = {'x': np.arange(1000), 'y': np.arange(1000) % 10}
  monkeypatch.setattr(
      personalization.data, 'load', lambda name, folder: load_lib.Dataset(
          name, examples, examples, num_classes=10))
  groups, num_classes = personalization.federations('fashion_mnist', 20, None)
  assert num_classes == 10
  assert [groups[name][0].num_clients for name in ('seen', 'unseen')] == [16, 4]
  rows, names = [], []
  for train, test in groups.values():
    assert train.client_ids == test.client_ids
    # A fifth of each client's own 50 examples, of no more than two labels.
    assert set(test.sizes) == {10} and set(train.sizes) == {40}
    assert all(len(np.unique(train.client(k)['y'])) <= 2
               for k in range(train.num_clients))
    names += train.client_ids
    rows += [*train.examples['x'], *test.examples['x']]
  assert len(set(names)) == 20 and sorted(rows) == list(range(1000))

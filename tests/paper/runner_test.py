"""The runner on digits: what it keeps, and that it goes on where it was."""

import math

import pytest

from benchmarks.paper import cells, grid, runner, store
from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.simulation import drive

CELL = cells.Cell('mnist_2nn', 'iid', 'fedavg', 0.5, 1, 10, (0.8,), {4: (6,)})


@pytest.fixture(autouse=True)
def _digits(tmp_path, monkeypatch):
  """A small cell, and a store of its own."""
  monkeypatch.setenv('FEDJAX_SIM_CACHE_DIR', str(tmp_path / 'cache'))
  monkeypatch.setattr(cells, 'config_overrides', lambda cell: {
      'dataset': 'digits', 'num_clients': 10, 'client_fraction': cell.C,
      'model': 'logistic_regression', 'targets': cell.targets})
  move_to(tmp_path, 'one', monkeypatch)


def move_to(tmp_path, name, monkeypatch):
  monkeypatch.setattr(store, 'STORE', tmp_path / name / 'cells.jsonl')
  monkeypatch.setattr(store, 'CLAIMS', tmp_path / name / 'claims')
  monkeypatch.setattr(store, 'WORK', tmp_path / name / 'work')


def outcome():
  """What must not depend on interruptions.

  How far a rate ran after it was beaten does: that is told once a dispatch.
  """
  record = store.read(store.STORE)[CELL.key]
  kept = {k: record[k] for k in ('state', 'best_rate', 'crossings', 'seeds')}
  return kept | {'rates': record['rates'].keys()}


def test_the_best_rate_lies_inside_the_grid():
  runner.run([CELL], seeds=3)
  record = store.read(store.STORE)[CELL.key]
  assert record['state'] == 'done' and record['seeds'] == [0, 1, 2]
  rates = {float(r): v for r, v in record['rates'].items()}
  medians = {r: sorted(math.inf if c is None else c
                       for c in v['crossings']['0.8'])[1]
             for r, v in rates.items()}
  best = float(record['best_rate']['0.8'])
  assert medians[best] == min(medians.values()) < math.inf
  assert min(rates) < best < max(rates)
  assert best * 10 ** (1 / 6) == pytest.approx(
      min(r for r in rates if r > best), rel=1e-3)
  # Who can't be the best any more has been stopped, at the best's median.
  for rate, one in rates.items():
    if one['stopped'] == 'beaten':
      assert medians[rate] > medians[best]
      assert one['rounds'] >= medians[best]


def test_seeds_that_a_search_did_without_are_run_at_its_best_rate(
    tmp_path, monkeypatch
):
  runner.run([CELL], seeds=3, search_seeds=1)
  record = store.read(store.STORE)[CELL.key]
  best = record['best_rate']['0.8']
  assert (record['state'], record['seeds']) == ('done', [0, 1, 2])
  assert record['search']['seeds'] == [0] and len(record['search']['rates']) > 4
  assert list(record['rates']) == [best]
  move_to(tmp_path, 'two', monkeypatch)
  runner.run([CELL], seeds=3, rates=[float(best)])
  want = store.read(store.STORE)[CELL.key]
  assert record['crossings'] == want['crossings']
  for ours, theirs in zip(record['curve']['test_accuracy'],
                          want['curve']['test_accuracy'], strict=True):
    common = [pair for pair in zip(ours, theirs, strict=False)
              if None not in pair]
    assert len(common) > 1 and all(x == y for x, y in common)


def test_a_search_goes_on_from_the_rates_that_ended(tmp_path, monkeypatch):
  """Wherever a new one would begin, and races what was cut short again."""
  runner.run([CELL], seeds=2)
  want = outcome()
  record = store.read(store.STORE)[CELL.key]
  best = grid.index(record['best_rate']['0.8'])
  fine = grid.rate(best - 1)
  # As a kill leaves it that takes the checkpoints with it.
  cut = record | {'state': 'partial', 'rates': record['rates'] | {
      fine: record['rates'][fine] | {'stopped': 'running'}}}
  move_to(tmp_path, 'two', monkeypatch)
  store.append(store.STORE, cut)
  raced, race = [], runner._Search._race

  def note(self, rates, budget):
    raced.extend(rates)
    return race(self, rates, budget)

  monkeypatch.setattr(runner._Search, '_race', note)
  runner.run([CELL], seeds=2)
  assert raced == [fine] and outcome() == want


def test_a_cell_that_is_done_is_not_computed_again(monkeypatch):
  runner.run([CELL], seeds=1, rates=[0.1])
  monkeypatch.setattr(runner, '_Search', None)
  runner.run([CELL], seeds=1, rates=[0.1])


def test_who_holds_a_cell_has_it_alone(monkeypatch, capsys):
  monkeypatch.setattr(runner, '_Search', None)
  with store.claim(store.CLAIMS, CELL.key):
    runner.run([CELL])
  assert 'another process' in capsys.readouterr().out


@pytest.mark.parametrize('rates', [
    [0.1, 0.03],
    pytest.param(None, marks=[pytest.mark.slow, pytest.mark.long])])
def test_a_budget_cuts_and_the_next_run_goes_on(tmp_path, monkeypatch, rates):
  runner.run([CELL], seeds=2, rates=rates)
  want = outcome()
  move_to(tmp_path, 'two', monkeypatch)
  monkeypatch.setattr(drive, '_DISPATCH_SECONDS', 0.0)  # A round each.
  states = []
  for _ in range(200):
    runner.run([CELL], seeds=2, rates=rates, budget_minutes=1e-9)
    runner.run([CELL], seeds=2, rates=rates, budget_minutes=1e-3)
    states.append(outcome()['state'])
    if states[-1] == 'done':
      break
  assert len(states) > 1 and outcome() == want


def test_a_clone_goes_on_from_the_store_alone(tmp_path, monkeypatch):
  """Without the folder of checkpoints; the best rate is one of before."""
  runner.run([CELL], seeds=1, rates=[0.1, 0.03])
  before = store.read(store.STORE)[CELL.key]
  monkeypatch.setattr(store, 'WORK', tmp_path / 'another')
  assert runner.run([CELL], seeds=1, rates=[0.01])
  record = store.read(store.STORE)[CELL.key]
  assert record['best_rate'] == before['best_rate'] == {'0.8': '0.1'}
  assert record['curve'] == before['curve']
  assert record['state'] == 'done'
  assert record['rates'].keys() == {'0.1', '0.03', '0.01'}


class OneDispatch:
  """A budget that is over after the first."""

  def __init__(self, minutes):
    self._asked = 0

  @property
  def over(self):
    self._asked += 1
    return self._asked > 1


def test_what_begins_again_takes_nothing_away(tmp_path, monkeypatch):
  monkeypatch.setattr(drive, '_DISPATCH_SECONDS', 0.0)  # A round each.
  monkeypatch.setattr(runner, 'Budget', OneDispatch)
  search = {'seeds': 1, 'rates': [0.003]}
  for _ in range(2):
    runner.run([CELL], **search)
  before = store.read(store.STORE)[CELL.key]
  assert before['state'] == 'partial' and before['rates']['0.003'][
      'rounds'] == 2
  monkeypatch.setattr(store, 'WORK', tmp_path / 'another')
  runner.run([CELL], **search)  # A clone without the checkpoint.
  runner.run([CELL], **search | {'seeds': 2})
  kept = store.read(store.STORE)[CELL.key]
  assert kept['rates'] == before['rates'] and kept['seeds'] == [0]
  assert kept['curve'] == before['curve']


@pytest.mark.parametrize('arguments, message', [
    ({'seeds': 0}, 'seeds'), ({'budget_minutes': 0}, 'budget_minutes'),
    ({'rates': [0.1, -0.1]}, 'rates'), ({'data_dir': '/none'}, 'data_dir')])
def test_arguments_out_of_range(arguments, message):
  with pytest.raises(ValueError, match=message):
    runner.run([CELL], **arguments)


class Killed(Exception):
  """Stands for a kill."""


def test_a_kill_costs_the_dispatch_that_was_running(tmp_path, monkeypatch):
  runner.run([CELL], seeds=2, rates=[0.1, 0.03])
  want = outcome()
  move_to(tmp_path, 'two', monkeypatch)
  monkeypatch.setattr(drive, '_DISPATCH_SECONDS', 0.0)
  save, rounds = Checkpoints.save, []

  def dies(when):
    def saves(self, number, state, notes):
      rounds.append(int(state.done.max()))
      if rounds[-1] == 4 and when == 'before':
        raise Killed  # After the records of round 4, before its checkpoint.
      save(self, number, state, notes)
      if rounds[-1] == 6:
        raise Killed
    return saves

  for when in ('before', 'after'):
    monkeypatch.setattr(Checkpoints, 'save', dies(when))
    with pytest.raises(Killed):
      runner.run([CELL], seeds=2, rates=[0.1, 0.03])
  assert rounds == [1, 2, 3, 4, 4, 5, 6]
  monkeypatch.setattr(Checkpoints, 'save', save)
  runner.run([CELL], seeds=2, rates=[0.1, 0.03])
  assert outcome() == want

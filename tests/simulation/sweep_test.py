"""Members of a sweep give what runs of their own give."""

import functools

import jax
import numpy as np
import optax
import pytest

import fedjax_sim
from fedjax_sim import algorithms
from fedjax_sim.core import compilation
from fedjax_sim.data import power_of_choice, sampling
from fedjax_sim.experiment import simulate as simulate_lib
from fedjax_sim.simulation import sweep as sweep_lib
from fedjax_sim.simulation import sweep_runs
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.placement import device_memory
from fedjax_sim.simulation.sweep_runs import SweepRuns
from tests import toys

MODEL = toys.softmax_model()
SIZES = [1, 37, 10, 20, 5, 11, 30, 2, 19, 8, 3]
DATA = toys.softmax_data(SIZES)
OTHER = toys.softmax_data(SIZES[::-1], seed=5)
FEDERATIONS = {tuple(data.sizes): data for data in (DATA, OTHER)}
TEST = toys.softmax_data([55], seed=0).examples
ROUNDS, COHORT = 9, 4


def fedavg(client_lr, server_lr=1.0):
  return algorithms.fedavg(
      MODEL, optax.sgd(client_lr), optax.sgd(server_lr, momentum=0.5),
      epochs=2, batch_size=10, client_schedule=lambda r: 0.9 ** r)


def fedsgd(client_lr):
  return algorithms.fedsgd(MODEL, client_lr)


def build(make, members, federations=(DATA,), **options):
  return sweep_lib.build(
      MODEL, make, federations, cohort_size=COHORT,
      example=members[0].hyperparameters, test=TEST,
      **{'num_members': len(members)} | options)


def run(sweep, members, rounds=ROUNDS, drop=lambda records: set(), **options):
  """(records by member, diverged, final state)."""
  state, active = sweep.init(members), set(range(len(members)))
  records, diverged = {i: [] for i in active}, {}
  for progress in drive(SweepRuns(sweep=sweep, members=members), state, rounds,
                        active=active, **options):
    for i, own in progress.records.items():
      records[i] += own
    diverged |= progress.diverged
    active -= drop(records)
    state = progress.state
  return records, diverged, state


def one_run(make, member, data=DATA):
  """A `simulate` of its own; its first record is of round 0."""
  numbers = tuple(member.hyperparameters.items())
  return _one_run(make, member.seed, numbers, tuple(data.sizes))


@functools.cache
def _one_run(make, seed, numbers, sizes):
  return simulate_lib.simulate(
      MODEL, make(**dict(numbers)), FEDERATIONS[sizes], rounds=ROUNDS,
      clients_per_round=COHORT, test=TEST, seed=seed, devices=1, lanes=2)


def assert_same(records, want):
  assert [one['round'] for one in records] == list(range(1, ROUNDS + 1))
  for got, one in zip(records, want[1:], strict=True):
    for name in ('train/loss', 'test/loss', 'test/accuracy', 'clients'):
      assert got[name] == pytest.approx(one[name], rel=1e-5)


@pytest.mark.parametrize('together, lanes', [
    pytest.param(1, 1, marks=pytest.mark.slow),
    pytest.param(1, 3, marks=pytest.mark.slow), (3, 2)])
@pytest.mark.parametrize('make, names', [
    (fedavg, ('client_lr', 'server_lr')), (fedsgd, ('client_lr',))])
def test_members_equal_runs_of_their_own(make, names, together, lanes):
  members = [sweep_lib.Member(seed, dict(zip(names, numbers, strict=False)))
             for seed in (0, 3) for numbers in ((0.1, 1.0), (0.3, 0.5))]
  sweep = build(make, members, together=together, lanes=lanes)
  records, diverged, state = run(sweep, members)
  assert not diverged
  for i, member in enumerate(members):
    want = one_run(make, member)
    assert_same(records[i], want.records)
    own = state.of(i).server.variables
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
                 own, want.variables)


def test_federations_of_their_own():
  members = [sweep_lib.Member(0, {'client_lr': 0.1}, 0),
             sweep_lib.Member(0, {'client_lr': 0.1}, 1)]
  records, _, _ = run(build(fedavg, members, (DATA, OTHER)), members)
  assert_same(records[0], one_run(fedavg, members[0]).records)
  assert_same(records[1], one_run(fedavg, members[1], OTHER).records)


def test_who_diverges_or_is_dropped_leaves_the_others_as_they_are():
  members = [sweep_lib.Member(0, {'client_lr': rate})
             for rate in (0.1, float(np.float32(3e38)), 0.2, 0.3)]
  drop = lambda records: {2} if len(records[2]) >= 3 else set()
  records, diverged, _ = run(build(fedavg, members), members, drop=drop)
  assert list(diverged) == [1]
  assert len(records[1]) == diverged[1].round - 1 < ROUNDS
  assert 1 <= len(diverged[1].clients) <= COHORT
  assert 3 <= len(records[2]) < ROUNDS
  for i in (0, 3):
    assert_same(records[i], one_run(fedavg, members[i]).records)


def test_other_members_of_the_same_program():
  """Rates and seeds are traced: a second race compiles nothing."""
  first = [sweep_lib.Member(0, {'client_lr': 0.1})] * 3
  sweep = build(fedavg, first)
  run(sweep, first, rounds=2)
  program = sweep.program.compiled
  second = [sweep_lib.Member(7, {'client_lr': 0.4})]
  records, _, _ = run(sweep, second)
  assert sweep.program.compiled is program
  assert_same(records[0], one_run(fedavg, second[0]).records)


@pytest.mark.parametrize('fitting, together', [(4, 4), (3, 2), (1, 1)])
def test_members_that_do_not_fit_side_by_side_take_turns(
    monkeypatch, fitting, together):
  """On an accelerator, by the memory of programs of so many members."""
  members = [sweep_lib.Member(0, {'client_lr': r})
             for r in (0.1, 0.2, 0.3, 0.4)]
  monkeypatch.setattr(compilation, 'platform_of', lambda device: 'tpu')
  limit = build(fedavg, members, devices=1, lanes=1,
                together=fitting).program.memory
  monkeypatch.setattr(device_memory, 'available', lambda device: limit.total)
  said = []
  sweep = build(fedavg, members, devices=1, lanes=1, say=said.append)
  assert sweep.together == together
  assert said == ([] if together == 4 else [
      '4 runs side by side need more memory than a device has, so they go '
      f'{together} at a time'])
  if together == 2:
    records, _, _ = run(sweep, members)
    assert_same(records[3], one_run(fedavg, members[3]).records)


def test_long_rounds_run_a_part_of_the_members_at_a_time(monkeypatch):
  monkeypatch.setattr(sweep_runs, '_LONGEST_SECONDS', 0.0)
  members = [sweep_lib.Member(0, {'client_lr': r}) for r in (0.1, 0.2, 0.3)]
  sweep, active = build(fedavg, members), {0, 1, 2}
  taken = [sorted(p.records) for p in drive(
      SweepRuns(sweep=sweep, members=members), sweep.init(members), 3,
      active=active)]
  size = sweep.placement.size
  assert all(len(t) <= size for t in taken[1:])
  assert sum(map(len, taken)) >= 3
  records, _, _ = run(sweep, members)
  assert_same(records[1], one_run(fedavg, members[1]).records)


def test_it_goes_on_from_a_state():
  members = [sweep_lib.Member(s, {'client_lr': 0.1}) for s in (0, 1, 2)]
  sweep = build(fedavg, members)
  _, _, state = run(sweep, members, rounds=4)
  records = []
  for progress in drive(SweepRuns(sweep=sweep, members=members), state, ROUNDS,
                        active={1}):
    records += progress.records[1]
  want = one_run(fedavg, members[1]).records[5:]
  assert [r['round'] for r in records] == [5, 6, 7, 8, 9]
  for got, one in zip(records, want, strict=True):
    assert got['test/loss'] == pytest.approx(one['test/loss'], rel=1e-5)


def test_seeds_and_rates():
  results = swept(seeds=[0, 1], learning_rates=[0.1, 0.3])
  assert results.keys() == {(s, r) for s in (0, 1) for r in (0.1, 0.3)}
  for (seed, rate), result in results.items():
    want = one_run(fedavg, sweep_lib.Member(seed, {'client_lr': rate}))
    assert_same(result.records[1:], want.records)
    assert result.records[0]['test/loss'] == pytest.approx(
        want.records[0]['test/loss'], rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
                 result.variables, want.variables)


def test_a_sweep_of_one_is_a_run_to_the_bit():
  (result,) = swept(seeds=[3], learning_rates=[0.1], devices=1,
                    lanes=2).values()
  want = one_run(fedavg, sweep_lib.Member(3, {'client_lr': 0.1}))
  assert untimed(result.records) == untimed(want.records)
  jax.tree.map(np.testing.assert_array_equal, result.state, want.state)


def untimed(records):
  return [{k: v for k, v in one.items() if k != 'seconds'} for one in records]


def swept(**options):
  return fedjax_sim.sweep(
      MODEL, fedavg, DATA, test=TEST,
      **{'rounds': ROUNDS, 'clients_per_round': COHORT} | options)


def test_runs_that_choose_by_losses_go_one_after_the_other():
  """To the bits of runs of their own; their dispatches are told apart."""
  seen = []
  options = {
      'sampler': power_of_choice(DATA.sizes, COHORT, 0, candidates=8),
      'clients_per_round': None, 'rounds': 3, 'devices': 1, 'lanes': 2}
  results = swept(
      seeds=[5], learning_rates=[0.1, 0.3], **options,
      on_dispatch=lambda progress: seen.extend(progress.records))
  assert seen == [0] * 3 + [1] * 3
  want = simulate_lib.simulate(
      MODEL, fedavg(0.3), DATA, test=TEST, seed=5, **options)
  assert untimed(results[5, 0.3].records) == untimed(want.records)
  assert results[5, 0.1].records[-1]['cohort'] != want.records[-1]['cohort']


@pytest.mark.parametrize('options, message', [
    ({'seeds': []}, 'seeds must'), ({'seeds': [0, 0]}, 'seeds must'),
    ({'learning_rates': [0.1, -1]}, 'learning_rates'),
    ({'learning_rates': [0.1, float('nan')]}, 'learning_rates'),
    ({'seeds': [-1]}, 'seeds'), ({'sampler': 'by_luck'}, 'sampler must be'),
    ({'sampler': sampling.uniform(11, 2, 0)}, 'left out beside a sampler'),
    ({'sampler': sampling.uniform(9, 2, 0), 'clients_per_round': None,
      'seeds': [0, 1]}, 'draws from num_clients = 9, the federation has 11')])
def test_bad_members(options, message):
  with pytest.raises(ValueError, match=message):
    swept(**{'seeds': [0], 'learning_rates': [0.1]} | options)


def test_bad_sweeps():
  member = sweep_lib.Member(0, {'client_lr': 0.1})
  with pytest.raises(ValueError, match='same number of clients'):
    build(fedavg, [member], (DATA, toys.softmax_data([3, 4])))
  with pytest.raises(ValueError, match='at least one federation'):
    build(fedavg, [member], ())
  sweep = build(fedavg, [member])
  with pytest.raises(ValueError, match='there must be 1 to'):
    sweep.init([member] * 100)

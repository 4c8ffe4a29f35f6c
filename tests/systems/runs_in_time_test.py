"""Runs over devices that are slow, late or lost: what the rounds compute."""

import jax
import numpy as np
import optax
import pytest

import fedjax_sim
from fedjax_sim import aggregation, algorithms, systems
from fedjax_sim.data import sampling
from fedjax_sim.experiment import spec_fields
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation import in_time, plan
from fedjax_sim.simulation.drive import drive
from tests import toys

MODEL = toys.softmax_model()
SIZES = (5, 8, 3, 9, 4, 7, 2, 6, 8, 1, 4, 0)
DATA = toys.softmax_data(SIZES)
M = 4


def fedavg(**kwargs):
  return algorithms.fedavg(
      MODEL, optax.sgd(0.1), optax.sgd(1.0, momentum=0.9), batch_size=2,
      **{'epochs': 2} | kwargs)


def simulation(algorithm, population=None, reporting=None, lanes=2, devices=1,
               **kwargs):
  held = population and in_time.Systems(
      population, reporting or systems.window())
  return build_lib.build(
      MODEL, algorithm, DATA, sampling.uniform(len(SIZES), M, 0),
      devices=devices, lanes=lanes, systems=held, **kwargs)


def run(one, rounds=5):
  """(the state after each round, on the host, and the records)."""
  states, records = [jax.device_get(one.init())], []
  for progress in drive(one, one.init(), rounds, rounds_per_dispatch=1):
    states.append(jax.device_get(progress.state))
    records += progress.records[0]
  return states, records


def assert_equal(got, want):
  jax.tree.map(np.testing.assert_array_equal, got, want)


def test_where_nothing_is_lost_it_is_the_plain_run_to_the_bit():
  plain, timed = simulation(fedavg()), simulation(
      fedavg(), systems.lognormal(), systems.window(1e6, late='partial'))
  slots = timed.plan(0, [True]).slots
  assert slots.arrives is None and slots.work is None
  assert str(plain.trace().jaxpr) == str(timed.trace().jaxpr)
  (*_, want), before = run(plain)
  (*_, got), records = run(timed)
  assert_equal(got, want)
  assert 'simulated_seconds' not in before[0]
  assert [one['clients'] for one in records] == [
      one['clients'] for one in before]
  seconds = [one['simulated_seconds'] for one in records]
  assert seconds == np.cumsum([one['duration'] for one in records]).tolist()
  assert all(one['started'] == M for one in records)


def clipped_ditto():
  clip = aggregation.adaptive_clip(0.1, quantile=0.5, learning_rate=0.2)
  return algorithms.ditto(
      MODEL, optax.sgd(0.1), server_optimizer=optax.sgd(1.0, momentum=0.9),
      lam=0.1, batch_size=2, epochs=2, aggregator=aggregation.aggregator(clip))


def test_a_round_that_fails_changes_nothing():
  one = simulation(
      clipped_ditto(), systems.lognormal(failures=systems.failures(0.3, 0.2)),
      systems.window(over_selection=1.3, min_reports=0.75))
  states, records = run(one, 12)
  failed = [r for r in records if r['failed']]
  assert 0 < len(failed) < len(records)
  for before, after, record in zip(
      states, states[1:], records, strict=False):
    r = record['round'] - 1
    held = one.timeline.round(r)
    assert record['clients'] == np.sum(
        held.arrives & (DATA.sizes[held.cohort] > 0))
    assert record['started'] == 6 and record['failed'] == held.failed
    kept = np.setdiff1d(
        np.arange(len(SIZES)), held.cohort[held.arrives])
    assert_equal(jax.tree.map(lambda x, k=kept: x[k], after.clients),
                 jax.tree.map(lambda x, k=kept: x[k], before.clients))
    if held.failed:
      assert record['clients'] == 0
      assert_equal(after._replace(server=after.server._replace(round=r)),
                   before)
    assert int(after.server.round) == r + 1


@pytest.mark.slow
def test_those_whose_messages_are_lost_do_not_matter():
  """The rounds' arrivals alone, as cohorts, whatever the lanes."""
  population = systems.lognormal(failures=systems.failures(0.1, 0.1, 0.1))
  one = simulation(clipped_ditto(), population,
                   systems.window(1.0, over_selection=1.5), lanes=4)
  cohorts = [held.cohort[held.arrives] for held in map(
      one.timeline.round, range(5))]
  (*_, got), records = run(one)
  want = toys.run_cohorts(MODEL, clipped_ditto(), DATA, cohorts, lanes=1)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
               (got.server, got.clients),
               jax.device_get((want.server, want.clients)))
  for options in ({'lanes': 3, 'devices': 2, 'examples': 'owned'},
                  {'lanes': 1, 'devices': 2, 'client_state': 'stored'}):
    (*_, other), others = run(simulation(
        clipped_ditto(), population,
        systems.window(1.0, over_selection=1.5), **options))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
                 other.server, got.server)
    for name in ('train/loss', 'clients', 'simulated_seconds'):
      assert [r[name] for r in others] == pytest.approx(
          [r[name] for r in records], rel=1e-4)


def test_clients_do_the_steps_that_fit():
  """As many clients with fewer epochs: of those cut short by one step."""
  epochs = lambda k: -(-SIZES[k] // 2)
  one = simulation(fedavg(), systems.identical(1.0, 1e12, 1e12),
                   systems.window(3.5, late='partial'))
  held = one.timeline.round(0)
  steps = 2 * np.array([epochs(k) for k in held.cohort])
  np.testing.assert_array_equal(held.work, np.minimum(steps, 3))
  states, _ = run(one, 1)
  # Three steps are what is left of two epochs, for whom they are not fewer.
  cohort = held.cohort[held.arrives & (steps >= 3)]
  assert len(cohort) >= 2
  alone = build_lib.build(
      MODEL, fedavg(), DATA, sampling.Sampler(
          lambda r: cohort, len(cohort), len(SIZES),
          lambda r, among, n: cohort), devices=1, lanes=2,
      systems=in_time.Systems(systems.identical(1.0, 1e12, 1e12),
                              systems.window(3.5, late='partial')))
  (_, got), _ = run(alone, 1)
  three = fedavg(epochs=1, steps=3)
  want = toys.run_cohorts(MODEL, three, DATA, [cohort])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
               got.server.variables, jax.device_get(want.server.variables))
  assert not np.allclose(states[1].server.variables.params['w'],
                         states[0].server.variables.params['w'])


@pytest.mark.parametrize('algorithm, gradients', [
    (fedavg(), 2 * 4), (algorithms.fedsgd(MODEL, 0.1), 8),
    (algorithms.ditto(MODEL, optax.sgd(0.1), lam=1.0, batch_size=2), 4 + 4),
    (algorithms.mime(MODEL, optax.sgd(0.1), batch_size=2), 4 + 2 * 4),
    (algorithms.ifca(MODEL, optax.sgd(0.1), clusters=3, batch_size=2),
     3 * 4 / 3 + 4),
])
def test_all_that_a_client_computes_takes_time(algorithm, gradients):
  """Of eight examples, in batches of two; and energy."""
  one = simulation(algorithm, systems.identical(
      2.0, 1e12, 1e12, training_watts=3.0, radio_watts=1.0))
  held = one.timeline.hold(0, np.array([1]), 0.0)
  assert held.seconds == pytest.approx(2.0 * gradients, abs=1e-6)
  assert held.joules == pytest.approx(3.0 * 2.0 * gradients, abs=1e-6)


def test_bytes_are_those_that_have_travelled():
  one = simulation(
      fedavg(), systems.lognormal(0.5, 1e4, 1e4, speed_ratio=30.0),
      systems.window(over_selection=1.5))
  traffic = one.bytes_per_client()
  for progress in drive(one, one.init(), 3):
    for record in progress.records[0]:
      held = one.timeline.round(record['round'] - 1)
      traffic.add(record)
      in_time.add_lost(record)
      assert record['bytes_down'] == pytest.approx(
          traffic.down * held.received.sum())
      assert record['bytes_up'] == pytest.approx(traffic.up * held.sent.sum())


def test_a_run_that_goes_on_has_the_same_timeline(tmp_path):
  options = dict(
      clients_per_round=M, devices=1, lanes=2, checkpoint_seconds=0.0,
      test=toys.softmax_data([20]).examples,
      systems=systems.lognormal(
          available=systems.sporadic(0.9), failures=systems.failures(0.1)),
      reporting=systems.window(1.0, over_selection=1.3, late='partial'))
  whole = fedjax_sim.simulate(
      MODEL, fedavg(), DATA, rounds=6, workdir=tmp_path / 'a', **options)
  fedjax_sim.simulate(
      MODEL, fedavg(), DATA, rounds=2, workdir=tmp_path / 'b', **options)
  folder = tmp_path / 'b'
  rest = fedjax_sim.simulate(
      MODEL, fedavg(), DATA, rounds=6, resume_from=folder, **options)
  assert_equal(rest.variables, whole.variables)
  assert whole.records[0]['simulated_seconds'] == 0.0
  timed = lambda records: [
      {k: r[k] for k in ('round', 'simulated_seconds', 'started', 'clients')}
      for r in records if r['round'] > 2]
  assert timed(rest.records) == timed(whole.records)
  with pytest.raises(ValueError, match='systems'):
    fedjax_sim.simulate(MODEL, fedavg(), DATA, rounds=6, workdir=tmp_path / 'a',
                        **options | {'systems': systems.identical()})


def test_members_of_a_sweep_are_runs_of_their_own():
  options = dict(
      rounds=3, clients_per_round=M,
      systems=systems.lognormal(failures=systems.failures(0.1)),
      reporting=systems.window(1.0, over_selection=1.3, late='partial'))
  make = lambda rate: algorithms.fedavg(
      MODEL, optax.sgd(rate), batch_size=2, epochs=2)
  found = fedjax_sim.sweep(MODEL, make, DATA, seeds=[0, 1],
                           learning_rates=[0.1, 0.2], **options)
  alone = fedjax_sim.simulate(
      MODEL, make(0.2), DATA, seed=1, devices=1, lanes=1, **options)
  for got, want in zip(found[1, 0.2].records, alone.records, strict=True):
    for name in ('simulated_seconds', 'duration', 'started', 'clients',
                 'failed', 'bytes_up', 'bytes_down', 'train/loss'):
      assert got[name] == pytest.approx(want[name], nan_ok=True)
  assert found[0, 0.2].records[-1]['simulated_seconds'] != (
      alone.records[-1]['simulated_seconds'])


def test_lost_clients_come_last_in_the_plan():
  cohorts = [np.array([3, 1, 0, 2])]
  planned = plan.plan_rounds(
      cohorts, [], np.array([1, 2, 3, 4]), np.arange(0, 10, 2), lanes=2,
      num_blocks=2, num_rounds=2, arrives=[np.array([False, True, True, True])],
      done=[np.array([4, 1, 1, 3])])
  slots = planned.slots
  np.testing.assert_array_equal(slots.client[0].ravel(), [2, 1, 0, 3])
  np.testing.assert_array_equal(slots.arrives[0].ravel(), [1, 1, 1, 0])
  np.testing.assert_array_equal(slots.work[0].ravel(), [3, 1, 1, 4])
  assert not slots.arrives[1].any()
  # The four steps of the one who is lost would be computed beside one step.
  assert plan.padded_share(planned, np.array([1, 2, 3, 4]))[0] == 0


def test_what_is_wrong_with_devices_is_said():
  identical, window = systems.identical(), systems.window
  text = '.*Text is for a config and the command line'
  for given, message in (
      ({'systems': 'phones'}, f'systems must be a Population{text}'),
      ({'systems': identical, 'reporting': 'window(3)'},
       f'reporting must be a Reporting{text}'),
      ({'reporting': window(3.0)}, 'reporting needs systems'),
      ({'systems': identical, 'reporting': window(1e-6)}, 'deadline must')):
    with pytest.raises(ValueError, match=message):
      fedjax_sim.simulate(
          MODEL, fedavg(), DATA, rounds=1, clients_per_round=M, **given)
  with pytest.raises(ValueError, match='systems must be a Population'):
    fedjax_sim.rounds(
        MODEL, fedavg(), DATA, clients_per_round=M, systems='phones')


@pytest.mark.parametrize('algorithm', [
    algorithms.ditto(MODEL, optax.sgd(0.1), lam=1.0, batch_size=2),
    algorithms.fedrep(MODEL, optax.sgd(0.1), personal='/b$', batch_size=2)])
def test_who_trains_twice_can_not_be_cut_short(algorithm):
  with pytest.raises(ValueError, match="late='partial' needs an algorithm"):
    simulation(algorithm, systems.identical(),
               systems.window(3.0, late='partial'))


def test_a_spec_says_what_is_wrong_with_it():
  for spec, message in (
      ('lognormal(speed=2)', "has no argument 'speed'"),
      ('lognorml', "Did you mean 'lognormal'")):
    with pytest.raises(ValueError, match=message):
      spec_fields.bind('systems', spec)

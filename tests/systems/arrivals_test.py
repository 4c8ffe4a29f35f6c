"""Timelines of asynchronous runs, against a reference and by what must hold."""

import types

import numpy as np
import pytest

from fedjax_sim import systems
from fedjax_sim.data import sampling
from fedjax_sim.experiment import run
from fedjax_sim.systems import arrivals as arrivals_lib
from fedjax_sim.systems import draws
from fedjax_sim.systems.arrivals import arrivals
from fedjax_sim.systems.profiles import Failures, Population, Profiles
from fedjax_sim.systems.timed_round import Costs
from tests import numpy_asynchronous

N, K = 30, 4
STEPS = np.random.default_rng(0).integers(1, 9, N)
COSTS = Costs(STEPS, 4e6, 1e6)


def make(population, concurrency=10, max_lag=3, wanted=K, costs=COSTS,
         num_clients=N, **kwargs):
  return arrivals(
      population, systems.asynchronous(concurrency, max_lag=max_lag),
      sampling.uniform(num_clients, wanted, 0), costs, 0, **kwargs)


def lossy_profiles():
  rng = np.random.default_rng(1)
  return Profiles(
      rng.lognormal(0, 1, N), rng.lognormal(14, 0.5, N),
      rng.lognormal(13, 0.5, N), Failures(*rng.uniform(0, 0.2, (3, N))))


def test_steps_are_those_of_a_slow_reference():
  profiles = lossy_profiles()
  down = COSTS.down_bits / profiles.down_bps
  up = COSTS.up_bits / profiles.up_bps
  training = STEPS * profiles.step_seconds

  def lost(number, client):
    u = lambda what: float(
        draws.uniforms(0, what, number, np.array([client]))[0])
    fails = lambda name: (
        u(f'fails {name}') < getattr(profiles.failures, name)[client])
    moments = {'before': down[client],
               'training': down[client] + u('moment training') * training[
                   client],
               'after': down[client] + training[client] + u(
                   'moment after') * up[client]}
    return min([moments[name] for name in moments if fails(name)] + [np.inf])

  want = numpy_asynchronous.run(
      60, seconds=down + training + up,
      choose=sampling.uniform(N, K, 0).among, wanted=K, concurrency=10,
      max_lag=3, model=None, lost=lost)
  made = make(Population(lambda n, s: profiles))
  for r, expected in enumerate(want):
    step = made.round(r)
    assert step.cohort.tolist() == expected['cohort']
    assert step.lag.tolist() == expected['lag']
    for name in ('started', 'lost', 'discarded'):
      assert getattr(step, name) == expected[name]
    assert made.end(r) == pytest.approx(expected['end'])
    assert made.begin(r) == step.start and made.end(r) == pytest.approx(
        step.start + step.seconds)
  steps = [made.round(r) for r in range(60)]
  assert sum(s.lost for s in steps) and sum(s.discarded for s in steps)
  assert max(s.lag.max() for s in steps) == 3


def test_a_device_twice_as_fast_reports_twice_as_often():
  seconds = np.where(np.arange(6) < 3, 1.0, 2.0)
  made = make(Population(lambda n, s: Profiles(
      seconds, np.full(n, 1e12), np.full(n, 1e12))), 6, max_lag=1000,
              costs=Costs(np.ones(6, int), 1.0, 1.0), num_clients=6, wanted=3)
  reports = np.concatenate([made.round(r).cohort for r in range(60)])
  counts = np.bincount(reports, minlength=6)
  np.testing.assert_array_equal(counts[:3], counts[0])
  assert np.all(np.abs(counts[:3] - 2 * counts[3:]) <= 2)
  assert made.end(59) == pytest.approx(counts[0], abs=2)


def test_alike_clients_are_rounds_without_lag():
  sampler = sampling.uniform(N, 10, 0)
  made = make(systems.identical(0.5, 4e6, 1e6), 10, wanted=10,
              costs=Costs(np.full(N, 6), 8e6, 2e6))
  for r in range(4):
    step = made.round(r)
    np.testing.assert_array_equal(step.cohort, sampler.sample(r))
    assert not step.lag.any() and step.seconds == pytest.approx(7.0)
    assert step.started == 10


def test_what_is_spent_is_that_of_whom_it_is_of():
  """Those that fail before they train have received, and done nothing else."""
  population = systems.identical(
      0.5, 4e6, 1e6, training_watts=3.0, radio_watts=2.0,
      failures=systems.failures(before=0.3))
  made = make(population, max_lag=99, costs=Costs(np.full(N, 6), 8e6, 2e6))
  steps = [made.round(r) for r in range(100)]
  assert all(s.spared == s.discarded == s.wasted == 0 for s in steps)
  lost = sum(s.lost for s in steps)
  assert lost / (lost + 100 * K) == pytest.approx(0.3, abs=0.05)
  at_work = sum(s.started for s in steps) - lost - 100 * K
  assert 0 <= at_work < 10  # Whoever has just reported has no successor yet.
  whole, cut = 3.0 * 3.0 + 2.0 * 4.0, 2.0 * 2.0
  joules = sum(s.joules for s in steps) - whole * 100 * K - cut * lost
  assert cut * at_work <= joules + 1e-6 and joules <= whole * at_work + 1e-6


@pytest.mark.parametrize('once', [False, True])
def test_who_keeps_a_state_reports_to_a_step_once(once):
  made = make(systems.lognormal(speed_ratio=1e4), 8, wanted=8, max_lag=50,
              once=once)
  twice = [len(set(s.cohort)) < 8 for s in map(made.round, range(50))]
  assert any(twice) != once


def test_clients_begin_while_they_are_eligible():
  hour = systems.nights(22.0, 1.0, spread=0.0)
  made = make(systems.lognormal(30.0, available=hour))
  assert made.round(0).start == 0.0
  assert made.end(0) > 22 * 3600
  ends = np.array([made.end(r) for r in range(150)]) / 3600 % 24
  assert np.all((22 <= ends) & (ends <= 23))
  assert made.end(149) > 24 * 3600
  assert sum(made.round(r).lost for r in range(150)) > 0


def test_any_step_may_be_asked_for_at_any_time(monkeypatch):
  monkeypatch.setattr(arrivals_lib, '_KEPT', 5)
  population = systems.lognormal(
      available=systems.sporadic(0.7, hours=0.01),
      failures=systems.failures(0.1))
  whole, late = make(population), make(population)
  steps = [whole.round(r) for r in range(30)]
  for r in (29, 3, 17):
    for name, value in steps[r]._asdict().items():
      np.testing.assert_array_equal(getattr(late.round(r), name), value)
  assert late.end(29) == whole.end(29) and len(late._steps) <= 6


@pytest.mark.parametrize('call, message', [
    (lambda: systems.asynchronous(0), 'concurrency must be'),
    (lambda: systems.asynchronous(5, max_lag=-1),
     'max_lag must be a whole number >= 0'),
    (lambda: make(systems.identical(), 3), 'concurrency must be at least 4'),
    (lambda: make(systems.identical(), 31), 'concurrency must be at most 30'),
    (lambda: make(systems.identical(failures=systems.failures(before=1.0))),
     'must report at some time'),
    (lambda: arrivals(
        systems.identical(), systems.asynchronous(10), sampling.Sampler(
            lambda r: np.arange(K), K, N), COSTS, 0), 'sampler must be able'),
])
def test_what_can_not_be_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.parametrize('concurrency, reports, most', [
    (20, 5, 20), (26, 5, 20), (27, 5, 21), (100, 1, 396)])
def test_the_most_lag_follows_from_the_mean(concurrency, reports, most):
  """4 (concurrency - 1) / K, rounded up, and at least 20."""
  made = arrivals(
      systems.identical(), systems.asynchronous(concurrency),
      sampling.uniform(200, reports, 0), Costs(np.ones(200, int), 1.0, 1.0), 0)
  assert made.reporting.asynchrony.max_lag == most


def test_the_header_tells_how_many_are_at_work():
  told = run._cohort(types.SimpleNamespace(
      sampler=sampling.uniform(N, K, 0), timeline=make(systems.identical()),
      train=types.SimpleNamespace(num_clients=N)))
  assert told.split(', ') == [
      '10 of 30 clients at work', 'a server step with 4 reports', 'max_lag 3']


def test_nobody_who_is_ever_eligible_is_refused(tmp_path):
  path = tmp_path / 'devices.npz'
  np.savez(path, step_seconds=np.ones(N), down_bps=np.ones(N) * 1e6,
           up_bps=np.ones(N) * 1e6, client=np.zeros(0), start=np.zeros(0),
           end=np.zeros(0))
  with pytest.raises(ValueError, match='must be eligible at some time'):
    make(systems.table(str(path)))

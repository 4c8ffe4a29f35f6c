"""Rounds in time against formulas and a reference client by client."""

import dataclasses

import numpy as np
import pytest

from fedjax_sim import systems
from fedjax_sim.data import sampling
from fedjax_sim.systems import draws
from fedjax_sim.systems.profiles import Failures, Population, Profiles
from fedjax_sim.systems.report_window import Reporting
from fedjax_sim.systems.timed_round import Costs
from fedjax_sim.systems.timeline import timeline

N, M = 40, 10
STEPS = np.random.default_rng(0).integers(1, 9, N)
STEPS[7] = 0
COSTS = Costs(STEPS, 4e6, 1e6)


def make(population, reporting=None, costs=COSTS, seed=0, **kwargs):
  return timeline(population, reporting or systems.window(),
                  sampling.uniform(N, M, seed), costs, seed, **kwargs)


def reference(profiles, reporting, costs, cohort, start, seed, number):
  """(arrives, seconds, failed, lost), an event after the other."""
  deadline = reporting.deadline or np.inf
  events, still = [], set()
  for place, k in enumerate(cohort):
    if not STEPS[k]:
      continue
    down = costs.down_bits / profiles.down_bps[k]
    up = costs.up_bits / profiles.up_bps[k]
    takes = lambda steps, k=k: profiles.step_seconds[k] * (
        costs.gradients * steps + (costs.beside[k] if steps else 0))
    steps = STEPS[k]
    if reporting.late == 'partial':
      while steps > 1 and down + takes(steps) + up > deadline:
        steps -= 1
    training = takes(steps)
    lost = np.inf
    if profiles.windows is not None:
      lost = float(profiles.windows.left(np.array([k]), start)[0])
    moments = {'before': lambda u, d=down: d,
               'training': lambda u, d=down, t=training: d + u * t,
               'after': lambda u, d=down, t=training, x=up: d + t + u * x}
    for name, moment in moments.items():
      u = lambda what, k=k: float(
          draws.uniforms(seed, f'{what}', number, np.array([k]))[0])
      if u(f'fails {name}') < getattr(profiles.failures, name)[k]:
        lost = min(lost, moment(u(f'moment {name}')))
    report = down + training + up
    events.append((report, place, True) if report <= lost
                  else (lost, place, False))
    still.add(place)
  arrived, clock, gone = [], 0.0, 0
  for time, place, reports in sorted(events):
    if time > deadline:
      clock = deadline
      break
    clock = time
    if reports:
      arrived.append(place)
    gone += not reports
    if len(arrived) == M:
      break
  failed = len(arrived) < max(1, np.ceil(reporting.min_reports * M))
  return [] if failed else arrived, clock, failed, gone


@pytest.mark.parametrize('gradients, passes', [(1.0, 0.0), (2.0, 0.5)])
@pytest.mark.parametrize('late', ['drop', 'partial'])
def test_a_timeline_is_that_of_a_slow_reference(late, gradients, passes):
  rng = np.random.default_rng(1)
  windows = systems.sporadic(0.9, hours=0.01).make(N, 3, '')
  profiles = Profiles(
      rng.lognormal(0, 1, N), rng.lognormal(14, 0.5, N),
      rng.lognormal(13, 0.5, N), Failures(*rng.uniform(0, 0.3, (3, N))),
      windows)
  reporting = systems.window(
      25.0, over_selection=1.5, min_reports=0.45, late=late)
  costs = COSTS._replace(gradients=gradients, beside=passes * STEPS)
  made = make(Population(lambda n, s: profiles), reporting, costs)
  clock, kinds = 0.0, set()
  for r in range(60):
    one = made.round(r)
    assert made.begin(r) == pytest.approx(clock) and one.start >= made.begin(r)
    arrived, seconds, failed, lost = reference(
        profiles, reporting, costs, one.cohort, one.start, 0, r)
    assert sorted(np.flatnonzero(one.arrives)) == sorted(arrived)
    assert one.seconds == pytest.approx(seconds)
    assert (one.failed, one.lost) == (failed, lost)
    clock = one.start + seconds
    kinds.add((failed, seconds < 25, len(arrived) == M))
    assert made.end(r) == pytest.approx(clock)
    np.testing.assert_array_equal(one.received[one.arrives], 1)
    np.testing.assert_array_equal(one.sent[one.arrives], 1)
  assert len(kinds) >= 3  # Rounds failed, ended early, and were late.


def test_alike_clients_take_what_the_formula_says():
  costs = Costs(np.full(N, 6), 8e6, 2e6)
  one = make(systems.identical(0.5, 4e6, 1e6, training_watts=3.0,
                               radio_watts=2.0), costs=costs).round(0)
  assert one.seconds == 8e6 / 4e6 + 6 * 0.5 + 2e6 / 1e6 == 7.0
  assert one.arrives.all() and len(one.cohort) == M
  assert one.joules == pytest.approx(M * (3.0 * 3.0 + 2.0 * 4.0))


def test_over_selection_takes_exactly_the_earliest():
  made = make(systems.lognormal(speed_ratio=50.0),
              systems.window(over_selection=1.3))
  for r in range(5):
    one = made.round(r)
    p, c = made.profiles, one.cohort
    report = (COSTS.down_bits / p.down_bps[c] + STEPS[c] * p.step_seconds[c]
              + COSTS.up_bits / p.up_bps[c])
    report[STEPS[c] == 0] = np.inf
    assert len(c) == len(set(c)) == 13
    np.testing.assert_array_equal(
        one.arrives, np.isin(np.arange(13), np.argsort(report)[:M]))
    assert one.seconds == pytest.approx(np.sort(report)[M - 1])
    # Who is told to stop has sent no whole message.
    assert np.all(one.sent[~one.arrives] < 1)


def test_partial_work_is_the_most_that_fits():
  deadline = 3.0
  made = make(systems.lognormal(0.5, speed_ratio=20.0),
              systems.window(deadline, late='partial'))
  p, cut = made.profiles, 0
  for r in range(5):
    one = made.round(r)
    c = one.cohort
    beside = COSTS.down_bits / p.down_bps[c] + COSTS.up_bits / p.up_bps[c]
    ends = beside + one.work * p.step_seconds[c]
    more = beside + (one.work + 1) * p.step_seconds[c]
    real = one.arrives
    assert np.all(ends[real] <= deadline)
    assert np.all((one.work == STEPS[c])[real] | (more > deadline)[real])
    assert np.all(one.work[~real & (STEPS[c] > 0)] == 1)
    cut += np.sum(one.work[real] < STEPS[c][real])
  assert cut > 0


def test_failures_happen_as_often_as_they_should():
  failures = systems.failures(before=0.1, training=0.2, after=0.3)
  made = make(systems.identical(failures=failures),
              costs=Costs(np.full(N, 6), 8e6, 2e6))
  rounds = [made.round(r) for r in range(400)]
  kept = np.mean([one.arrives.mean() for one in rounds])
  assert kept == pytest.approx(0.9 * 0.8 * 0.7, abs=0.03)
  # Those lost before or in training have sent nothing, the others a part.
  sent = np.concatenate([one.sent[~one.arrives] for one in rounds])
  part = 0.9 * 0.8 * 0.3
  assert np.mean(sent > 0) == pytest.approx(part / (1 - 0.504), abs=0.04)
  assert sent[sent > 0].mean() == pytest.approx(0.5, abs=0.04)
  assert all(one.seconds <= 8e6 / 20e6 + 0.6 + 2e6 / 5e6 + 1e-9
             for one in rounds)


def test_any_round_may_be_asked_for_at_any_time():
  population = systems.lognormal(
      available=systems.sporadic(0.7), failures=systems.failures(0.1))
  reporting = systems.window(2.0, over_selection=1.2, min_reports=0.8)
  whole, late = make(population, reporting), make(population, reporting)
  rounds = [whole.round(r) for r in range(30)]
  for r in (29, 3, 17):
    for name, value in rounds[r]._asdict().items():
      np.testing.assert_array_equal(getattr(late.round(r), name), value)
  again = dataclasses.replace(whole, _clock=[0.0], _rounds={})
  assert again.end(29) == whole.end(29)


def test_nothing_lost_is_the_plain_cohort():
  sampler = sampling.uniform(N, M, 0)
  everyone = systems.lognormal(available=systems.sporadic(1.0))
  for population in (systems.lognormal(), everyone):
    made = make(population)
    assert made.may_lose == (population is everyone)
    for r in range(3):
      np.testing.assert_array_equal(made.round(r).cohort, sampler.sample(r))


def test_the_server_waits_until_enough_are_eligible():
  night = systems.nights(22.0, 1.0, spread=0.0)
  made = make(systems.identical(available=night))
  assert made.round(0).start == pytest.approx(22 * 3600)
  assert made.begin(0) == 0.0
  # Within the hour rounds follow each other at once.
  assert made.round(1).start == pytest.approx(made.end(0))


@pytest.mark.parametrize('call, message', [
    (lambda: systems.window(over_selection=0.9), 'over_selection must be at'),
    (lambda: make(systems.identical(), systems.window(over_selection=4.1)),
     'over_selection must be at most 4, .* 10 .* 40 clients, got 4.1'),
    (lambda: systems.window(0.0), 'deadline must be positive'),
    (lambda: systems.window(min_reports=1.1), 'min_reports must lie in'),
    (lambda: systems.window(late='partial'), 'needs a deadline'),
    (lambda: systems.window(late='never'), 'late must be one of'),
    (lambda: systems.failures(training=-0.1), 'training must lie in'),
    (lambda: systems.lognormal(0.0), 'step_seconds must be positive'),
    (lambda: systems.lognormal(up_bps=-1), 'up_bps must be positive'),
    (lambda: systems.lognormal(speed_ratio=0.5), 'speed_ratio must be at'),
    (lambda: systems.lognormal(radio_watts=1.0), 'given together'),
    (lambda: systems.lognormal(training_watts=-1.0), 'training_watts must be'),
    (lambda: systems.mixture(systems.phones(), shares=[0.5]), 'add up to 1'),
    (lambda: systems.sporadic(0.0), 'probability must be above 0'),
    (lambda: systems.nights(24.0), r'start_hour must be an hour in \[0, 24\)'),
    (lambda: make(systems.identical(), systems.window(0.1)),
     'enough clients report, 1 in a round, .* within which 0 can'),
    (lambda: make(systems.identical(failures=systems.failures(training=1.0))),
     'failures must let enough clients report, 1 in a .* for 0 clients'),
    (lambda: make(systems.lognormal(), systems.window(0.5, min_reports=1.0)),
     'enough clients report, 10 in a round'),
    (lambda: make(systems.identical(), systems.window(9.0, late='partial'),
                  counts_steps=False), 'counted in local steps'),
    (lambda: make(systems.identical(available=systems.nights(
        0.0, 0.5, spread=0.0, zones=list(range(24))))), 'must be eligible'),
    (lambda: timeline(systems.identical(), Reporting(over_selection=1.3),
                      sampling.Sampler(lambda r: np.arange(M), M, N), COSTS, 0),
     'sampler must be able'),
])
def test_what_can_not_be_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_the_ratio_is_that_of_the_percentiles():
  made = systems.lognormal(
      0.2, 1e7, 1e6, speed_ratio=100.0, bandwidth_ratio=4.0).make(100_000, 0)
  for values, median, ratio in ((made.step_seconds, 0.2, 100.0),
                                (made.down_bps, 1e7, 4.0),
                                (made.up_bps, 1e6, 4.0)):
    low, middle, high = np.percentile(values, [5, 50, 95])
    assert high / low == pytest.approx(ratio, rel=0.05)
    assert middle == pytest.approx(median, rel=0.02)
  np.testing.assert_allclose(made.down_bps / made.up_bps, 10.0)


def test_classes_have_their_shares_and_their_own_numbers():
  made = systems.mixture(
      systems.identical(1.0, available=systems.sporadic(1.0),
                        failures=systems.failures(before=0.5)),
      systems.identical(2.0, available=systems.sporadic(1e-12)),
      shares=[0.25, 0.75]).make(10_000, 0)
  first = made.step_seconds == 1.0
  assert first.mean() == pytest.approx(0.25, abs=0.02)
  np.testing.assert_array_equal(made.failures.before, np.where(first, 0.5, 0))
  np.testing.assert_array_equal(
      made.windows.is_open(np.arange(10_000), 0.0), first)

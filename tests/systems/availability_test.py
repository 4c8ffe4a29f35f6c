"""Windows of eligibility against a look at every second."""

import numpy as np
import pytest

from fedjax_sim import systems
from fedjax_sim.systems import draws
from fedjax_sim.systems.availability import DAY, HOUR, both, from_intervals
from fedjax_sim.systems.eligible_now import EligibleNow


def check(windows, clients, times, horizon, step):
  """`left` and `until` are what `is_open` says of all times that follow."""
  for time in times:
    later = np.arange(0, horizon, step)
    is_open = np.stack([windows.is_open(clients, time + x) for x in later])
    np.testing.assert_array_equal(windows.is_open(clients, time), is_open[0])
    for found, state in ((windows.left(clients, time), True),
                         (windows.until(clients, time), False)):
      changes = (is_open != state).argmax(axis=0)
      never = (is_open == state).all(axis=0)
      expected = np.where(never, horizon, later[changes])
      far = np.minimum(found, horizon)
      assert np.all(far <= expected + 1e-6)
      assert np.all(far > expected - step - 1e-6)


def test_intervals_that_repeat_overlap_and_pass_the_end():
  intervals = [(0, 10, 30), (0, 25, 40), (1, 90, 120), (1, 50, 60),
               (3, 0, 100), (4, 30, 60), (4, 0, 10), (4, 60, 100)]
  client, start, end = np.array(intervals, float).T
  windows = from_intervals(client.astype(int), start, end,
                           np.array([100.0, 100, 100, 100, 200]), 5)
  check(windows, np.arange(5), [0.5, 15.5, 55.5, 95.5, 119.5, 250.5], 400, 1)
  left = windows.left(np.arange(5), 95.0)
  np.testing.assert_allclose(left, [0, 25, 0, np.inf, 5])
  assert np.isinf(windows.until(np.array([2]), 0.0)[0])


def test_models_of_hours():
  zones = [-6.0, 0.0, 7.0]
  models = [systems.nights(zones=zones), systems.sporadic(0.5, hours=0.5),
            systems.day_and_night(0.2, 0.8, zones=zones)]
  made = [model.make(50, 0, '') for model in models]
  made.append(both(*made[1:]))
  for windows in made:
    check(windows, np.arange(50), [600.0, 13.7 * HOUR], 2 * DAY, 900.0)


def test_who_is_eligible_while_time_goes_on():
  """Only those that may have changed are looked at again; and back in time."""
  asked = []

  def watched(windows):
    def is_open(clients, seconds):
      asked.append(len(clients))
      return windows.is_open(clients, seconds)
    return windows._replace(is_open=is_open)

  zones = [-6.0, 0.0, 7.0]
  kinds = systems.mixture(
      systems.lognormal(available=systems.nights(zones=zones)),
      systems.lognormal(available=systems.all_of(
          systems.sporadic(0.5, hours=0.7), systems.day_and_night(0.2, 0.8))),
      systems.lognormal(), shares=[0.4, 0.4, 0.2])
  windows = kinds.make(200, 0).windows
  now, everyone = EligibleNow(watched(windows), 200), np.arange(200)
  rng = np.random.default_rng(0)
  times = np.cumsum(rng.exponential(600.0, 400))
  # Moments of change too, to the last bit.
  edges = 7 * HOUR + windows.left(everyone, 7 * HOUR)
  times = np.sort(np.r_[times, edges[np.isfinite(edges)], 48 * HOUR])
  for time in [*times, 3 * HOUR, 3.1 * HOUR]:
    np.testing.assert_array_equal(
        now.at(time), windows.is_open(everyone, time))
  assert np.mean(asked[1:]) < 100 and asked.count(200) == 2


def test_nights_are_at_night_and_hours_have_their_probability():
  clients = np.arange(20_000)
  share = lambda windows, hour: windows.is_open(clients, hour * HOUR).mean()
  night = systems.nights(23.0, 7.0, spread=1.0).make(20_000, 0, '')
  assert share(night, 2.5) > 0.97 and share(night, 14.5) < 0.01
  assert share(night, 23.0) == pytest.approx(0.5, abs=0.02)
  ahead = systems.nights(23.0, 7.0, zones=[-9.0]).make(20_000, 0, '')
  assert share(ahead, 11.5) > 0.97
  hours = systems.day_and_night(0.1, 0.6).make(20_000, 0, '')
  assert share(hours, 12.5) == pytest.approx(0.1, abs=0.01)
  assert share(hours, 22.5) == pytest.approx(0.6, abs=0.015)
  assert share(hours, 5.5) == pytest.approx(0.6, abs=0.015)
  # Parts of one model are drawn apart from each other.
  twice = systems.all_of(systems.sporadic(0.5), systems.sporadic(0.5))
  assert share(twice.make(20_000, 0, ''), 1.5) == pytest.approx(0.25, abs=0.015)


def test_draws_are_uniform_and_by_identity():
  clients = np.arange(100_000)
  drawn = draws.uniforms(5, 'a', 3, clients)
  counts = np.histogram(drawn, 20, (0, 1))[0]
  assert np.sum((counts - 5000) ** 2 / 5000) < 45  # 99.9% of chi^2 with 19.
  np.testing.assert_array_equal(
      draws.uniforms(5, 'a', 3, clients[[9, 4]]), drawn[[9, 4]])
  for other in (draws.uniforms(6, 'a', 3, clients),
                draws.uniforms(5, 'b', 3, clients),
                draws.uniforms(5, 'a', 4, clients), np.roll(drawn, 1)):
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.013

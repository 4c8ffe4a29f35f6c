"""The arithmetic of the comparison by bytes and time; no measurements here."""

import numpy as np
import pytest

from benchmarks.communication import curves, report, runs, store


def records(accuracies, up, down):
  return [{'round': i + 1, 'bytes_up': up, 'bytes_down': down,
           'test/accuracy': a, 'simulated_seconds': 10.0 * (i + 1)}
          for i, a in enumerate(accuracies)]


def test_bytes_to_a_target():
  """Between rounds 2 and 4, at (0.9 - 0.8) / (1.0 - 0.8): round 3."""
  one = curves.curve(records([None, 0.8, None, 1.0], up=2.0, down=5.0))
  assert one['round'] == [2, 4] and one['up'] == [4, 8]
  assert curves.crossing(one, 0.9, 'round') == pytest.approx(3)
  assert curves.crossing(one, 0.9, 'up') == pytest.approx(6)
  assert curves.crossing(one, 0.9, 'both') == pytest.approx(21)
  assert curves.crossing(one, 0.9, 'seconds') == pytest.approx(30)


def test_a_target_that_is_not_reached():
  one = curves.curve(records([0.5, 0.6], up=1.0, down=1.0))
  assert curves.crossing(one, 0.7, 'up') is None
  assert curves.crossing(curves.curve([]), 0.7, 'up') is None
  assert curves.summary([3.0, None, 1.0]) == (3.0, 1.0, np.inf)


def test_the_better_half_goes_on_after_the_cut():
  judge, active = runs.halving(2), {0, 1, 2}
  accuracies = [0.5, 0.9], [0.8, 0.1], [0.7, 0.6]
  judge([curves.curve(records(a[:1], 1, 1)) for a in accuracies], active)
  assert active == {0, 1, 2}
  judge([curves.curve(records(a, 1, 1)) for a in accuracies], active)
  assert active == {0, 1}


def test_pages_show_the_committed_results():
  for page in {place.page for place in report.PLACES}:
    assert report.text(page, store.read()) == (report.DOCS / page).read_text()

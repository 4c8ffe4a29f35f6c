"""Readings of a curve whose crossings are known."""

import pytest

from benchmarks.paper import readings

CURVE = [0.9, 0.98, 0.95, 0.96, 0.96, 0.99]


@pytest.mark.parametrize('rounds, crossing', [
    # 0.97 lies seven eighths of the way from round 1 to 2 (0.9 to 0.98).
    (1, 1.875),
    # Rounds 2, 4, 6: the first look has it.
    (2, 2),
    # Rounds 3 and 6: half of the way from 0.95 to 0.99.
    (3, 4.5), (4, None)])
def test_fewer_looks_find_a_peak_later_or_never(rounds, crossing):
  assert readings.every(rounds)(CURVE) == (
      crossing and pytest.approx(crossing, abs=1e-9))


def test_too_few_rounds_for_a_look():
  assert readings.every(4)(CURVE[:2]) is None
  assert readings.every(1)([]) is None


def test_held_is_the_first_of_a_row():
  curve = [0.97, 0.9, 0.98, 0.97, 0.96, 0.97, 0.97, 0.99]
  assert readings.held(1)(curve) == 1
  assert readings.held(2)(curve) == 3
  assert readings.held(3)(curve) == 6
  assert readings.held(4)(curve) is None
  assert readings.held(3)(curve[:2]) is None


def test_the_mean_is_of_a_round_and_those_before_it():
  curve = [0.99, 0.90, 0.96, 0.98, 0.97]
  # Means of three: 0.95, 0.94667, 0.97: just there, in the fifth round.
  assert readings.mean(3)(curve) == 5
  assert readings.mean(1)(curve) == 1
  assert readings.mean(5)(curve) is None
  assert readings.mean(6)(curve) is None


def test_whole_percent_are_rounded_to_the_nearest():
  assert readings.rounded([0.96, 0.9649, 0.965, 0.98]) == 3
  assert readings.rounded([0.9649]) is None

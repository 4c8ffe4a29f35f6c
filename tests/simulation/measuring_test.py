"""Who is fastest, from times that are made up."""

import types

import numpy as np
import pytest

from fedjax_sim.core import machine_load
from fedjax_sim.simulation import measuring

FIRST, SECOND = (2, 1), (1, 1)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
  """A machine that nobody else uses."""
  monkeypatch.setattr(
      machine_load, 'now', lambda: machine_load.Load(0.0, 0.0))


def fastest(monkeypatch, time_of, choices=(FIRST, SECOND)):
  """`measuring.fastest`, where a round of a choice takes `time_of(choice)`."""
  def make(*choice):
    return types.SimpleNamespace(
        choice=choice, program=types.SimpleNamespace(compiled=None),
        train=types.SimpleNamespace(max_size=16))
  monkeypatch.setattr(
      measuring, '_time', lambda one, *args: time_of(one.choice))
  measured = measuring.fastest(make, choices)
  return measured.best.choice, measured.unclear


@pytest.mark.parametrize('quick', [FIRST, SECOND])
def test_a_tenth_is_clear_in_spite_of_noise(monkeypatch, quick):
  rng = np.random.default_rng(0)
  noisy = lambda c: (1.0 if c == quick else 1.1) * rng.uniform(1, 1.05)
  assert fastest(monkeypatch, noisy) == (quick, '')


@pytest.mark.parametrize('slow_turns', [1, 3])
def test_a_few_slow_seconds_do_not_decide(monkeypatch, slow_turns):
  """The first choice is quicker by a tenth, but slow for its first turns."""
  calls = []
  def time_of(choice):
    calls.append(choice)
    slow = choice == FIRST and calls.count(FIRST) <= slow_turns + 1
    return (1.3 if slow else 1.0) if choice == FIRST else 1.1
  assert fastest(monkeypatch, time_of) == (FIRST, '')


@pytest.mark.parametrize('seed', range(5))
def test_times_that_are_noise_alone_choose_the_first(monkeypatch, seed):
  rng = np.random.default_rng(seed)
  best, _ = fastest(monkeypatch, lambda c: rng.lognormal(0, 0.1))
  assert best == FIRST


def test_what_is_as_fast_is_no_reason_to_leave_the_first(monkeypatch):
  times = {FIRST: 1.01, SECOND: 1.0}
  assert fastest(monkeypatch, times.get) == (FIRST, '')


def test_nothing_is_decided_while_others_use_the_machine(monkeypatch):
  """A neighbour makes the first choice a quarter slower all the time."""
  loads = iter([machine_load.Load(0.0, 0.0), machine_load.Load(10.0, 4.0)])
  monkeypatch.setattr(machine_load, 'now', lambda: next(loads))
  times = {FIRST: 1.25, SECOND: 1.0}
  best, unclear = fastest(monkeypatch, times.get)
  assert best == FIRST and unclear == 'other programs use this machine'

import pytest

from fedjax_sim.core import machine_load


def test_others_are_what_this_process_is_not(tmp_path, monkeypatch):
  stat = tmp_path / 'stat'
  own = iter([1.0, 4.0])
  monkeypatch.setattr(machine_load, '_STAT', stat)
  monkeypatch.setattr(machine_load.os, 'sysconf', lambda name: 100)
  monkeypatch.setattr(machine_load.time, 'process_time', lambda: next(own))
  stat.write_text('cpu 200 0 100 700 0 0 0 0 0 0\ncpu0 1 2 3\n')
  before = machine_load.now()
  stat.write_text('cpu 600 0 200 1100 50 0 0 50 0 0\ncpu0 1 2 3\n')
  # Of 10 seconds 5.5 were busy, and 3 of these this process's.
  assert machine_load.now().share_since(before) == pytest.approx(0.25)


def test_a_system_that_does_not_tell_is_quiet(tmp_path, monkeypatch):
  monkeypatch.setattr(machine_load, '_STAT', tmp_path / 'none')
  assert machine_load.now().share_since(machine_load.now()) == 0

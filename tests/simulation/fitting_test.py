"""The largest width that fits, by few programs, of made up memory."""

import types

import pytest

from fedjax_sim.simulation import fitting
from fedjax_sim.simulation.placement import device_memory
from fedjax_sim.simulation.placement.device_memory import Memory


class Made(types.SimpleNamespace):
  """Holds a program of a width, that can be compiled if it fits."""

  def __init__(self, width, need, limit):
    super().__init__(width=width, program=self, memory=need)
    self.limit = limit

  @property
  def compiled(self):
    if not device_memory.fits(self.memory, self.limit):
      raise ValueError(f'{self.width} do not fit')


def widest(monkeypatch, need, limit, widths):
  """The width that is chosen, and all whose program was compiled."""
  monkeypatch.setattr(device_memory, 'available', lambda device: limit)
  made = []
  def make(width):
    made.append(width)
    return Made(width, need(width), limit)
  return fitting.widest(make, widths).width, made


POWERS = [1024 >> i for i in range(11)]


@pytest.mark.parametrize('limit, want', [
    (2000, [1024]), (1123, [1024, 512]), (140, [1024, 32]), (101, [1024, 1])])
def test_one_program_tells_how_many_fit(monkeypatch, limit, want):
  """What is held is 100, what is between grows with the width."""
  need = lambda width: Memory(100, width)
  assert widest(monkeypatch, need, limit, POWERS) == (want[-1], want)


def test_a_second_one_corrects_a_wrong_guess(monkeypatch):
  """Half of what is between doesn't grow: 512 more than the first guess."""
  need = lambda width: Memory(0, 512 + width / 2)
  assert widest(monkeypatch, need, 600, POWERS) == (128, [1024, 512, 128])


def test_a_limit_that_nothing_fits_says_so_for_the_smallest(monkeypatch):
  with pytest.raises(ValueError, match='^1 do not fit'):
    widest(monkeypatch, lambda width: Memory(100, width), 50, POWERS)


@pytest.mark.parametrize('need, limit', [(None, 10), (Memory(0, 9), None)])
def test_where_nobody_tells_the_largest_is_taken(monkeypatch, need, limit):
  assert widest(monkeypatch, lambda width: need, limit, POWERS)[0] == 1024

import io
import re
import threading

import pytest

from fedjax_sim.experiment import notice


class Pages(io.StringIO):
  """Tells when a number of texts has been written."""

  def __init__(self, number):
    super().__init__()
    self.full, self._left = threading.Event(), number

  def write(self, text):
    super().write(text)
    self._left -= 1
    if self._left <= 0:
      self.full.set()


def test_a_long_wait_is_told_and_goes_on(monkeypatch):
  monkeypatch.setattr(notice, '_SECONDS', 0.001)
  out = Pages(4)
  with notice.Notice(out) as told:
    told.say('compiling')
    assert out.full.wait(60)
    told.say('measuring')
    told.say('measuring')
  first, second = out.getvalue().splitlines()
  assert re.fullmatch(r'compiling \.\.\.( \d+ s){3,} \d+\.\d s', first)
  assert re.fullmatch(r'measuring \.\.\.( \d+ s)* \d+\.\d s', second)


def test_the_line_ends_before_an_error_is_shown():
  out = Pages(1)
  with pytest.raises(ValueError), notice.Notice(out) as told:
    told.say('compiling')
    raise ValueError
  assert out.getvalue().endswith(' s\n')


def test_where_nothing_is_waited_for_nothing_is_said():
  out = Pages(1)
  with notice.Notice(out):
    pass
  assert out.getvalue() == ''

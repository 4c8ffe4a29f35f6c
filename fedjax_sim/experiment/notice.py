"""Says what is being waited for, and that it goes on."""

import sys
import threading
import time
from typing import TextIO

from fedjax_sim.experiment import processes

# Longer than this nothing stays silent.
_SECONDS = 2.0


class Notice:
  """A line for what takes long, which gets longer every two seconds.

  `compiling the rounds ... 2 s 4 s 5.1 s`. A context manager; only the first of
  several processes writes.

  Args:
    out: where to; None is the standard output.
    silent: writes nothing.
  """

  def __init__(self, out: TextIO | None = None, silent: bool = False):
    self._out = out or sys.stdout
    self._silent = silent or not processes.is_first()
    self._lock = threading.Lock()
    self._ended = threading.Event()
    self._text, self._begun = '', None
    self._thread = threading.Thread(target=self._go_on, daemon=True)

  def say(self, text: str) -> None:
    """What is being waited for from now on."""
    with self._lock:
      if text == self._text and self._begun is not None:
        return
      self._end_line()
      self._text = text
      self._begun = time.monotonic()
      self._write(f'{text} ...')

  def __enter__(self) -> 'Notice':
    self._thread.start()
    return self

  def __exit__(self, *error) -> None:
    self._ended.set()
    self._thread.join()
    with self._lock:
      self._end_line()

  def _go_on(self) -> None:
    while not self._ended.wait(_SECONDS):
      with self._lock:
        if self._begun is not None:
          self._write(f' {time.monotonic() - self._begun:.0f} s')

  def _end_line(self) -> None:
    if self._begun is not None:
      self._write(f' {time.monotonic() - self._begun:.1f} s\n')
    self._begun = None

  def _write(self, text: str) -> None:
    if not self._silent:
      self._out.write(text)
      self._out.flush()

"""Which clients are eligible, asked again and again while time goes on."""

import numpy as np

from fedjax_sim.systems.availability import Windows

# Seconds before a change at which a client is looked at again: far more than
# what rounding can make of the moment.
_EARLY = 1e-3


class EligibleNow:
  """Remembers who is, and looks again only at clients that may have changed.

  Of many clients few do between two rounds. What it says is what `is_open`
  would say of all.
  """

  def __init__(self, windows: Windows, num_clients: int):
    self._windows = windows
    self._changes = np.full(num_clients, -np.inf)
    self._is_open = np.zeros(num_clients, bool)
    self._time = -np.inf

  def at(self, time: float) -> np.ndarray:
    """bool [N], not to be written to: who is eligible at a time.

    Times may also go back, which takes as long as the first one.
    """
    if time < self._time:
      self._changes[:] = -np.inf
    self._time = time
    due = np.flatnonzero(self._changes <= time + _EARLY)
    if len(due):
      self._is_open[due] = self._windows.is_open(due, time)
      self._changes[due] = time + self._windows.steady(due, time)
    return self._is_open

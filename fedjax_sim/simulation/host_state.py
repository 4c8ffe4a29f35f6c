"""What the host keeps from round to round, beside what the devices hold."""

from typing import Any, NamedTuple

import numpy as np


class HostState(NamedTuple):
  """NumPy arrays, which checkpoints hold; a field is None where it isn't used.

  Attributes:
    clock: float64 [], the simulated time by what messages have really cost;
      None where that is known beforehand, or rounds take no time.
    memory: the selector's.
  """

  clock: np.ndarray | None = None
  memory: Any = None

"""What else keeps this machine's processors busy."""

import os
import time
from pathlib import Path
from typing import NamedTuple

_STAT = Path('/proc/stat')


class Load(NamedTuple):
  """Seconds of all processors together since the machine was started.

  Attributes:
    total: that have passed.
    others: in which somebody else than this process computed.
  """

  total: float
  others: float

  def share_since(self, before: 'Load') -> float:
    """What part of the processors others have used since then, 0 to 1."""
    total = self.total - before.total
    return max(0.0, self.others - before.others) / total if total else 0.0


def now() -> Load:
  """The load until now; where the system doesn't tell, nobody's."""
  try:
    fields = _STAT.read_text().split('\n', 1)[0].split()[1:9]
    ticks = [int(field) for field in fields]
    second = os.sysconf('SC_CLK_TCK')
  except (OSError, ValueError):  # Not Linux.
    return Load(0.0, 0.0)
  idle = sum(ticks[3:5])  # And waiting for a disk.
  total = sum(ticks)
  return Load(total / second, (total - idle) / second - time.process_time())

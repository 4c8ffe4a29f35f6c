"""The largest choice that fits into memory, from as few programs as can be.

Compiling for an accelerator takes up to minutes. What a program holds hardly
depends on what it computes side by side, and what lies in between grows with
it: so one program tells about where the limit is, and a second one better.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from fedjax_sim.simulation.placement import device_memory


class Point(NamedTuple):
  """What is known of one choice.

  Attributes:
    width: clients, or members, side by side.
    need: of its program.
  """

  width: int
  need: device_memory.Memory


def widest(make: Callable[[int], Any], widths: Sequence[int]) -> Any:
  """What is made with the largest width whose program fits.

  Args:
    make: width -> something with a `Program` as `program`.
    widths: the largest first.

  Raises:
    ValueError: not even the smallest does.
  """
  left, known = list(widths), []
  have = device_memory.available(jax.local_devices()[0])
  while True:
    width = left.pop(0)
    made = make(width)
    need = made.program.memory
    if device_memory.fits(need, have) or not left:
      _ = made.program.compiled  # Which raises where it doesn't.
      return made
    known.append(Point(width, need))
    # The smallest is tried in any case.
    left = [w for w in left[:-1] if predicted(known, w) <= have] + left[-1:]


def most_together(
    make: Callable[[int], Any], most: int, say: Callable[[str], None]
) -> Any:
  """A sweep with as many members side by side as the memory holds.

  Args:
    make: number of members -> `Sweep`.
    most: the largest.
    say: told of fewer.
  """
  widths = [most]
  while widths[-1] > 1:
    widths.append(-(-widths[-1] // 2))
  sweep = widest(make, widths)
  if sweep.together < most:
    say(f'{most} runs side by side need more memory than a device has, so they '
        f'go {sweep.together} at a time')
  return sweep


def predicted(known: Sequence[Point], width: int) -> float:
  """Bytes of a program of a smaller width than those that are known.

  On a line through the last two; of a single one the temporary arrays are taken
  to grow with the width, and all else to stay.
  """
  last = known[-1]
  if len(known) > 1:
    before = known[-2]
    slope = (before.need.total - last.need.total) / (before.width - last.width)
  else:
    slope = last.need.temporary / last.width
  return last.need.total - slope * (last.width - width)

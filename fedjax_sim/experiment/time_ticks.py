"""Ticks of an axis of seconds, at whole minutes, hours or days."""

from typing import Any

_UNITS = ((86400, 'd'), (3600, 'h'), (60, 'min'), (1, 's'))
# Seconds between two ticks. Steps of a minute and an hour divide the next unit.
_STEPS = (
    *(base * 10.0**power for power in range(-6, 0) for base in (1, 2, 5)),
    1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800,
    3600, 7200, 10800, 21600, 43200,
    *(base * 10**power * 86400 for power in range(5) for base in (1, 2, 5)))
_MOST = 8


def place(axis: Any, end: float) -> None:
  """Puts ticks on an axis.

  Args:
    axis: of matplotlib, linear or a logarithm.
    end: the last place of a curve, in seconds.
  """
  from matplotlib import ticker  # Here: it takes a second.
  if axis.get_scale() == 'log':
    # Powers of ten of each unit; 100 seconds are no whole minutes.
    places = sorted({length * 10**power for length, _ in _UNITS
                     for power in range(2)} | {86400 * 10**p for p in range(5)}
                    | {10.0**power for power in range(-6, 0)})
    axis.set_major_locator(ticker.FixedLocator(places))
    axis.set_minor_formatter(ticker.NullFormatter())
    axis.set_major_formatter(lambda x, _: _text(x, x))
    return
  step = next((s for s in _STEPS if end <= _MOST * s), _STEPS[-1])
  axis.set_major_locator(ticker.MultipleLocator(step))
  axis.set_major_formatter(lambda x, _: _text(x, step))


def _text(seconds: float, step: float) -> str:
  """In the largest unit that a step is a whole number of."""
  length, name = next((one for one in _UNITS if step % one[0] == 0), _UNITS[-1])
  return f'{seconds / length:.6g} {name}'

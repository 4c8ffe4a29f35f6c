"""What a curve is drawn against: rounds, or what was spent up to each of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.experiment import reporting, time_ticks


class PlotAxis(NamedTuple):
  """A horizontal axis.

  Attributes:
    label: what it says.
    fields: of records; `()` for the number of the round.
    text: a number's, None for matplotlib's or `time_ticks`.
    summed: whether fields are added up over all rounds so far.
  """

  label: str
  fields: tuple[str, ...] = ()
  text: Callable[[float], str] | None = None
  summed: bool = True


PLOT_AXES = {
    'round': PlotAxis('communication round'),
    'bytes_up': PlotAxis('sent by all clients', ('bytes_up',),
                         reporting.byte_text),
    'bytes_down': PlotAxis('received by all clients', ('bytes_down',),
                           reporting.byte_text),
    'bytes': PlotAxis('sent and received by all clients',
                      ('bytes_up', 'bytes_down'), reporting.byte_text),
    'simulated_seconds': PlotAxis(
        'simulated time', ('simulated_seconds',), summed=False),
}


def places(records: Sequence[Mapping[str, Any]], axis: str) -> np.ndarray:
  """Where each record lies, float64 [n]; NaN where it lacks the fields.

  Args:
    records: in order, those of all rounds so far.
    axis: a name in `PLOT_AXES`.
  """
  _, fields, _, summed = PLOT_AXES[checks.one_of('axis', axis, PLOT_AXES)]
  if not fields:
    return np.array([record['round'] for record in records], float)
  if not records:
    return np.zeros(0)
  values = np.array([[record.get(field, np.nan) for field in fields]
                     for record in records], float).sum(axis=-1)
  return np.cumsum(values) if summed else values


def style(axes: Any, axis: str, ends: Sequence[float]) -> None:
  """Label, ticks and range; a logarithm where runs end far from each other.

  Args:
    axes: of matplotlib, with the curves.
    axis: a name in `PLOT_AXES`.
    ends: the last place of each curve.
  """
  label, fields, text, _ = PLOT_AXES[axis]
  axes.set_xlabel(label)
  if fields and min(ends) > 0 and max(ends) > 10 * min(ends):
    _logarithm(axes)
  else:
    axes.set_xlim(left=0)
  if axis == 'simulated_seconds':
    time_ticks.place(axes.xaxis, max(ends))
  elif text is not None:
    axes.xaxis.set_major_formatter(lambda x, _: text(x))
  else:
    axes.xaxis.get_major_locator().set_params(integer=True)


def _logarithm(axes: Any) -> None:
  """Without the points at 0, whose place would be the left edge."""
  for curve in axes.lines:
    if curve.get_transform() == axes.transData:  # Not a line across all.
      x, y = curve.get_data()
      above = np.asarray(x) > 0
      curve.set_data(np.asarray(x)[above], np.asarray(y)[above])
  axes.relim()
  axes.set_xscale('log')


def bytes_on_top(axes: Any, records: Sequence[Mapping[str, Any]]) -> Any:
  """A second axis, of what all clients have sent up to a round.

  Returns:
    It, or None where the records don't tell, as those of old runs.
  """
  rounds, sent = places(records, 'round'), places(records, 'bytes_up')
  if not len(sent) or not np.all(np.isfinite(sent)) or sent[-1] <= 0:
    return None
  # Beyond the last record as on average before it.
  rounds, sent = (np.array([0, *x, 2 * x[-1]]) for x in (rounds, sent))
  top = axes.secondary_xaxis('top', functions=(
      lambda x: np.interp(x, rounds, sent),
      lambda y: np.interp(y, sent, rounds)))
  label, _, text, _ = PLOT_AXES['bytes_up']
  top.set_xlabel(label)
  top.xaxis.set_major_formatter(lambda x, _: text(x))
  return top

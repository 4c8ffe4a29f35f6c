"""Lines of the closing table on simulated time."""

from collections.abc import Sequence

import numpy as np

from fedjax_sim.simulation.records import Record

_UNITS = ((86400.0, 'days', 'd'), (3600.0, 'hours', 'h'),
          (60.0, 'minutes', 'min'), (1.0, 'seconds', 's'))


def text(seconds: float) -> str:
  """A time such as '3.25 hours'."""
  length, name, _ = _unit(seconds)
  return f'{seconds / length:.2f} {name}'


def short(seconds: float) -> str:
  """A time such as '3.25 h', with as few digits as it takes."""
  length, _, name = _unit(seconds)
  return f'{seconds / length:.3g} {name}'


def _unit(seconds: float) -> tuple[float, str, str]:
  """The length of a unit that reads well for a time, and its names."""
  return next((one for one in _UNITS if seconds >= 2 * one[0]), _UNITS[-1])


def fields(records: Sequence[Record]) -> dict[str, str]:
  """What a run took, from the records of trained models; {} without time."""
  timed = [one for one in records if one.get('simulated_seconds') is not None]
  if not timed:
    return {}
  told = {'simulated time': text(timed[-1]['simulated_seconds']),
          'a round': f"{text(np.median([x['duration'] for x in timed]))} "
                     '(median)'}
  failed = sum(one['failed'] for one in timed)
  started = sum(one['started'] for one in timed)
  lost = started - sum(one['clients'] for one in timed)
  if lost:
    told['reports lost'] = f'{lost / started:.1%} of {started:g}'
  if failed:
    told['failed rounds'] = f'{failed:g} of {len(timed)}'
  joules = [one['joules'] for one in timed if 'joules' in one]
  return told | ({'energy': f'{sum(joules) / 3.6e6:.3g} kWh'} if joules else {})


def to_target(records: Sequence[Record], target: float) -> dict[str, str]:
  """The time at which an evaluation first reached a test accuracy."""
  timed = [one for one in records if one.get('simulated_seconds') is not None]
  if not timed:
    return {}
  reached = [one['simulated_seconds'] for one in timed
             if (one.get('test/accuracy') or 0) >= target]
  return {f'time to {target:.1%}':
          text(reached[0]) if reached else 'not reached'}

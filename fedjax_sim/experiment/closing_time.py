"""Lines of the closing table on simulated time."""

from collections.abc import Sequence

import numpy as np

from fedjax_sim.simulation.records import Record

_UNITS = ((86400.0, 'days'), (3600.0, 'hours'), (60.0, 'minutes'),
          (1.0, 'seconds'))


def text(seconds: float) -> str:
  """A time such as '3.25 hours'."""
  length, name = next(
      (one for one in _UNITS if seconds >= 2 * one[0]), _UNITS[-1])
  return f'{seconds / length:.2f} {name}'


def energy(joules: float) -> str:
  """An energy such as '47.2 J', '3.25 kJ' or '1.50 kWh'."""
  if joules < 1e3:
    return f'{joules:.3g} J'
  return (f'{joules / 1e3:,.2f} kJ' if joules < 3.6e6 else
          f'{joules / 3.6e6:,.2f} kWh')


def reports_lost(records: Sequence[Record]) -> str | None:
  """How many of those that were chosen did not report; None if all did."""
  timed = [one for one in records if one.get('started') is not None]
  started = sum(one['started'] for one in timed)
  reports = sum(one['clients'] for one in timed)
  if _is_asynchronous(timed):  # Some who have begun are still at work.
    started = reports + sum(one['lost'] + one['discarded'] for one in timed)
  lost = started - reports
  return f'{lost / started:.1%} of {started:g}' if lost else None


def _is_asynchronous(records: Sequence[Record]) -> bool:
  return bool(records) and records[0].get('discarded') is not None


def _lags(records: Sequence[Record]) -> dict[str, str]:
  """How late reports were, of an asynchronous run."""
  if not _is_asynchronous(records):
    return {}
  reports = sum(one['clients'] for one in records)
  mean = sum(one['lag/mean'] * one['clients'] for one in records)
  most = max(one['lag/max'] for one in records)
  told = {'lag of reports': f'{mean / max(reports, 1):.2f} steps on average, '
                            f'{most:g} at most'}
  discarded = sum(one['discarded'] for one in records)
  return told | ({'too old, discarded': f'{discarded:g}'} if discarded else {})


def all_failed(records: Sequence[Record]) -> bool:
  """Whether no round has changed the model, from those of trained ones."""
  return bool(records) and all(one.get('failed') for one in records)


def fields(records: Sequence[Record]) -> dict[str, str]:
  """What a run took, from the records of trained models; {} without time."""
  timed = [one for one in records if one.get('simulated_seconds') is not None]
  if not timed:
    return {}
  told = {'simulated time': text(timed[-1]['simulated_seconds']),
          'a simulated round':
              f"{text(np.median([x['duration'] for x in timed]))} (median)"}
  failed = sum(one['failed'] for one in timed)
  told |= _lags(timed)
  if lost := reports_lost(timed):
    told['reports lost'] = lost
  if failed:
    told['failed rounds'] = f'{failed:g} of {len(timed)}'
  joules = [one['joules'] for one in timed if 'joules' in one]
  return told | ({'energy': energy(sum(joules))} if joules else {})


def to_target(records: Sequence[Record], target: float) -> dict[str, str]:
  """The time at which an evaluation first reached a test accuracy."""
  timed = [one for one in records if one.get('simulated_seconds') is not None]
  if not timed:
    return {}
  reached = [one['simulated_seconds'] for one in timed
             if (one.get('test/accuracy') or 0) >= target]
  return {f'time to {target:.1%}':
          text(reached[0]) if reached else 'not reached'}

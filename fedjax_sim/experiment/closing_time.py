"""Lines of the closing table on simulated time."""

from collections.abc import Sequence

import numpy as np

from fedjax_sim.simulation.records import Record

_UNITS = ((86400.0, 'days'), (3600.0, 'hours'), (60.0, 'minutes'),
          (1.0, 'seconds'))
# Of all reports; more are warned of.
_MANY_DISCARDED = 0.1


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


def unused(records: Sequence[Record]) -> dict[str, str]:
  """What became of clients whose reports did not count; {} if all did."""
  timed = [one for one in records if one.get('lost') is not None]
  counts = {'reports lost': sum(one['lost'] for one in timed)}
  if _is_asynchronous(timed):
    counts['discarded, too old'] = sum(one['discarded'] for one in timed)
    # Some who have begun are still at work.
    of = sum(one['clients'] for one in timed) + sum(counts.values())
  else:
    of = sum(one['started'] for one in timed)
    for failed, name in ((0, 'not waited for'), (1, 'of failed rounds')):
      counts[name] = sum(
          one['started'] - one['clients'] - one['lost'] for one in timed
          if one['failed'] == failed)
  return {name: f'{count / of:.1%} of {of:g}'
          for name, count in counts.items() if count}


def too_old(records: Sequence[Record]) -> str | None:
  """A warning where many reports were discarded; None where few were."""
  timed = [one for one in records if one.get('discarded') is not None]
  discarded = sum(one['discarded'] for one in timed)
  reports = discarded + sum(one['clients'] for one in timed)
  if not timed or discarded <= _MANY_DISCARDED * reports:
    return None
  return (f'{discarded / reports:.0%} of the reports were discarded, since '
          'their lag exceeded max_lag: a larger one keeps more')


def _is_asynchronous(records: Sequence[Record]) -> bool:
  return bool(records) and records[0].get('discarded') is not None


def _lags(records: Sequence[Record]) -> dict[str, str]:
  """How late reports were, of an asynchronous run."""
  if not _is_asynchronous(records):
    return {}
  reports = sum(one['clients'] for one in records)
  mean = sum(one['lag/mean'] * one['clients'] for one in records)
  most = max(one['lag/max'] for one in records)
  return {'lag of reports': f'{mean / max(reports, 1):.2f} steps on average, '
                            f'{most:g} at most'}


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
  told |= _lags(timed) | unused(timed)
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

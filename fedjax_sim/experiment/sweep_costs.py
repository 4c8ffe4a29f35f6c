"""Columns of a sweep's table: what each run has cost its clients."""

from collections.abc import Sequence

from fedjax_sim.experiment import (
    closing_time,
    reporting,
    selection_told,
    topology_told,
)
from fedjax_sim.simulation.records import Record


def columns(runs: Sequence[Sequence[Record]]) -> dict[str, list[str]]:
  """The costs in which runs differ, or that vary from round to round.

  Simulated time and the distance from consensus always where there is one;
  what choosing clients by losses has cost, which is a part of the bytes and the
  time, and reports that did not count where there are any.

  Args:
    runs: the records of each.

  Returns:
    Head -> an entry for each run, '-' where its records don't tell.
  """
  runs = [[one for one in run if one['round'] > 0] for run in runs]
  found = {}
  for field in ('bytes_up', 'bytes_down', 'bytes_edge_up', 'bytes_edge_down'):
    known = {one.get(field) for run in runs for one in run} - {None}
    if len(known) > 1:
      found[field.replace('_', ' ')] = [_bytes(run, field) for run in runs]
  found |= selection_told.columns(runs, reporting.byte_text)
  found |= topology_told.columns([run[-1] if run else {} for run in runs])
  times = [run[-1].get('simulated_seconds') if run else None for run in runs]
  if any(time is not None for time in times):
    found['simulated time'] = [
        '-' if time is None else closing_time.text(time) for time in times]
  unused = [closing_time.unused(run) for run in runs]
  for name in dict.fromkeys(name for one in unused for name in one):
    found[name] = [
        one.get(name, '0' if _is_timed(run) else '-')
        for one, run in zip(unused, runs, strict=True)]
  return found


def _bytes(run: Sequence[Record], field: str) -> str:
  """Of all clients and rounds."""
  values = [one.get(field) for one in run]
  if not values or None in values:
    return '-'
  return reporting.byte_text(sum(values))


def _is_timed(run: Sequence[Record]) -> bool:
  return any(one.get('started') is not None for one in run)

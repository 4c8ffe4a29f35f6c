"""What runs tell people of what choosing clients by their losses has cost."""

from collections.abc import Callable, Sequence

from fedjax_sim.experiment import closing_time
from fedjax_sim.simulation.records import Record

# Field of a record -> the head of a sweep's column.
_COSTS = {
    'measured': 'losses measured', 'bytes_up_selection': 'choosing up',
    'bytes_down_selection': 'choosing down',
    'selection_seconds': 'choosing time'}


def closing(
    records: Sequence[Record], byte_text: Callable[[float], str]
) -> dict[str, str]:
  """A line of the closing table; {} where no choice has cost anything.

  Args:
    records: of trained models.
    byte_text: bytes, for people.
  """
  measured, up, down, seconds = (_total(records, name) or 0 for name in _COSTS)
  if not down + up + seconds:
    return {}
  parts = [f'{byte_text(up)} up, {byte_text(down)} down (counted above)']
  if measured:
    parts.insert(0, f'{int(measured):,} losses measured')
  if seconds:
    parts.append(f'{closing_time.text(seconds)} of the simulated time')
  return {'choosing clients': ', '.join(parts)}


def columns(
    runs: Sequence[Sequence[Record]], byte_text: Callable[[float], str]
) -> dict[str, list[str]]:
  """Columns of a sweep's table; a cost that no run has is left out.

  Args:
    runs: the records of each.
    byte_text: bytes, for people.

  Returns:
    Head -> an entry for each run, '-' where nobody chooses by losses.
  """
  texts = ('{:,.0f}'.format, byte_text, byte_text, closing_time.text)
  found = {}
  for (name, head), text in zip(_COSTS.items(), texts, strict=True):
    totals = [_total(run, name) for run in runs]
    if any(totals):
      found[head] = ['-' if x is None else text(x) for x in totals]
  return found


def _total(records: Sequence[Record], name: str) -> float | None:
  """Over all rounds; None where no record tells it."""
  known = [one[name] for one in records if one.get(name) is not None]
  return sum(known) if known else None

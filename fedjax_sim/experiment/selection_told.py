"""What runs tell people of what choosing clients by their losses has cost."""

from collections.abc import Callable, Sequence

from fedjax_sim.experiment import closing_time
from fedjax_sim.simulation.records import Record


def closing(
    records: Sequence[Record], byte_text: Callable[[float], str]
) -> dict[str, str]:
  """A line of the closing table; {} where no choice has cost anything.

  Args:
    records: of trained models.
    byte_text: bytes, for people.
  """
  total = lambda name: sum(one.get(name) or 0 for one in records)
  measured, seconds = total('measured'), total('selection_seconds')
  down, up = (total(f'bytes_{way}_selection') for way in ('down', 'up'))
  if not down + up + seconds:
    return {}
  parts = [f'{byte_text(up)} up, {byte_text(down)} down (counted above)']
  if measured:
    parts.insert(0, f'{int(measured):,} losses measured')
  if seconds:
    parts.append(f'{closing_time.text(seconds)} of the simulated time')
  return {'choosing clients': ', '.join(parts)}

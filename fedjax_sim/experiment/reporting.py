"""What a run prints: header, progress, closing table."""

import importlib.util
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

import numpy as np

from fedjax_sim.experiment import (
    closing_time,
    headline,
    metrics,
    selection_told,
    topology_told,
)
from fedjax_sim.simulation.records import DivergenceError, Record


def byte_text(num_bytes: float) -> str:
  """Bytes in a unit that reads well, such as '7.6 MB' (powers of 1000)."""
  for unit in ('B', 'kB', 'MB', 'GB', 'TB'):
    if num_bytes < 1000 or unit == 'TB':
      return f'{num_bytes:.0f} {unit}' if unit == 'B' else (
          f'{num_bytes:.1f} {unit}')
    num_bytes /= 1000
  raise AssertionError


def print_fields(fields: dict[str, str], out: TextIO | None = None) -> None:
  """One 'name  value' line each, values aligned."""
  width = max(len(name) for name in fields)
  for name, value in fields.items():
    print(f'{name:<{width}}  {value}', file=out or sys.stdout, flush=True)


def table(lines: Sequence[Sequence[str]]) -> str:
  """Lines of equally many fields, in columns."""
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return '\n'.join(
      '  '.join(field.ljust(width) for field, width in
                zip(line, widths, strict=True)).rstrip() for line in lines)


def has_bar(asked: bool | None) -> bool:
  """Whether to show progress; None is on a terminal only."""
  return sys.stdout.isatty() if asked is None else asked


class Progress:
  """A bar on a terminal; elsewhere a plain line for each evaluation.

  Tells first how long it took until there were records, from `begun`, a time of
  `time.perf_counter`; None leaves that out. A target that an earlier part of
  the run has reached, or the model before it, is not announced.

  Args:
    earlier: the run's records up to round `start`.
    start: rounds done.
    stop: rounds in all; None where nobody knows.
    targets: test accuracies.
    begun: see above.
    bar: whether to show a bar; None is only on a terminal.
    lines: whether to show lines where there is no bar.
  """

  def __init__(
      self, earlier: Sequence[Record], start: int, stop: int | None,
      targets: Sequence[float], begun: float | None = None,
      bar: bool | None = None, lines: bool = True):
    self._stop, self._targets = stop, sorted(targets)
    self._begun, self._told, self._lines = begun, False, lines
    self._best = max(_values(earlier, 'test/accuracy'), default=-np.inf)
    self._bar = None
    if has_bar(bar):
      from tqdm.auto import tqdm
      self._bar = tqdm(total=stop, initial=start, unit='round',
                       file=sys.stdout, dynamic_ncols=True)

  def update(self, records: Sequence[Record]) -> None:
    """Shows new records."""
    if self._begun is not None and records and records[-1]['round']:
      self._say(f'first round after {time.perf_counter() - self._begun:.1f} s')
      self._begun = None
    for record in records:
      if any(name.startswith('test/') for name in record):
        self._print(record)
      self._best = max([self._best, *_values([record], 'test/accuracy')])
    if self._bar is not None:
      self._bar.update(sum(record['round'] > 0 for record in records))

  def diverged(self, error: DivergenceError, then: str) -> None:
    """Says so once, where the run is to 'continue'; not where to 'stop'."""
    if then == 'continue' and not self._told:
      self._say(f'{error} Carrying on, as on_divergence says.')
      self._told = True

  def _print(self, record: Record) -> None:
    reached = [t for value in _values([record], 'test/accuracy')
               for t in self._targets if self._best < t <= value]
    number = str(record['round'])
    if self._stop is not None:
      number = f'{number:>{len(str(self._stop))}}/{self._stop}'
    others = [name for name in record if name.startswith('test/')
              and name not in ('test/accuracy', 'test/loss')]
    failed = bool(record.get('failed'))  # Then nothing was trained.
    shown = [f'{name.replace("/", " ")} {record[name]:.4f}'
             for name in ('test/accuracy', *others, 'test/loss',
                          *(() if failed else ('train/loss',)))
             if record.get(name) is not None]
    line = '  '.join([f'round {number}', *shown, *['failed'] * failed, *(
        f'<- reached {target:.1%}' for target in reached)])
    if self._bar is None or reached:
      self._say(line)
    if self._bar is not None:
      self._bar.set_postfix_str(shown[0] if shown else '')

  def _say(self, line: str) -> None:
    if self._bar is not None:
      self._bar.write(line, file=sys.stdout)
    elif self._lines:
      print(line, flush=True)

  def close(self) -> None:
    """Leaves the terminal clean."""
    if self._bar is not None:
      self._bar.close()


def _values(records: Sequence[Record], name: str) -> list[float]:
  """Those of a metric that there are."""
  return [record[name] for record in records if record.get(name) is not None]


def closing_fields(
    records: Sequence[Record], targets: Sequence[float],
    higher_is_better: Mapping[str, bool] | None = None,
    done: int | None = None,
) -> dict[str, str]:
  """The closing table, from those of metrics.jsonl, of trained models.

  Args:
    records: in their order.
    targets: test accuracies.
    higher_is_better: of the model's metrics; see `headline`.
    done: rounds that the run has done, None for that of the last record. Where
      records of some are lost, the table says what is unknown.
  """
  records = [one for one in records if one['round'] > 0]
  if not records:
    return {'rounds': '0'}
  last = records[-1]['round']
  done = last if done is None else done
  fields, least = {'rounds': f'{done}'}, ''
  if lost := metrics.missing_rounds(records, done):
    fields['lost'] = (f'the records of {metrics.ranges(lost)}; what is below '
                      'is of the others')
    least = 'at least '
  if closing_time.all_failed(records):
    fields['warning'] = ('all rounds failed: nothing was trained, so metrics '
                         'below are those of the model before')
  elif old := closing_time.too_old(records):
    fields['warning'] = old
  told = headline.of(records, higher_is_better or {})
  if told is not None:
    tested = told.tested(records)
    values = [one[told.name] for one in tested]
    best = told.best(values)
    fields |= {
        f'best {told.title}':
            f'{values[best]:.4f} (round {tested[best]["round"]})',
        f'final {told.title}':
            f'{values[-1]:.4f}' if last >= done else 'unknown',
        'mean of the last ten': f'{np.mean(values[-10:]):.4f} '
                                f'({len(values[-10:])} evaluations)',
    }
    for target in sorted(targets) if told.name == 'test/accuracy' else ():
      fields[f'rounds to {target:.1%}'] = rounds_to(records, target, done)
      fields |= closing_time.to_target(records, target)
  seconds = [one['seconds'] for one in records]
  padded = [one['padded_steps'] for one in records if one.get('padded_steps')]
  if padded:
    fields['padded steps'] = f'{np.mean(padded):.1%} of those computed'
  fields |= closing_time.fields(records)
  fields['computing a round'] = (
      f'{np.median(seconds):.3f} seconds (median, with evaluation)')
  fields |= topology_told.closing(records)
  for name in ('bytes_up', 'bytes_down', 'bytes_edge_up', 'bytes_edge_down'):
    known = _values(records, name)
    if len(known) == len(records):
      fields[name.replace('_', ' ')] = least + byte_text(sum(known))
  return fields | selection_told.closing(records, byte_text)


def clients_field(
    clients: Mapping[str, float | None], higher_is_better: Mapping[str, bool]
) -> dict[str, str]:
  """A line on the clients' own metrics, from `ClientMetrics.summary`.

  On the accuracy, or else the first metric whose direction was stated, or else
  any beside the loss.
  """
  names = [name.removesuffix('/mean') for name in clients
           if name.endswith('/mean')]
  name = next((x for x in ('accuracy', *higher_is_better, *names)
               if x in names and x != 'loss'), 'loss')
  shown = {key.rpartition('/')[2]: value for key, value in clients.items()
           if key.rpartition('/')[0] == name and value is not None}
  return {f"clients' own test {name}": ', '.join(
      f'{key} {value:.4f}' if key != 'clients' else f'of {value} clients'
      for key, value in shown.items())}


def rounds_to(
    records: Sequence[Record], target: float, done: int | None = None) -> str:
  """Rounds to a test accuracy, in words, from the records of a metrics file.

  What is not known is not told: where the records of rounds before the target
  was reached are lost, it may have been reached there.
  """
  records = [one for one in records if one['round'] > 0]
  tested = [one for one in records if one.get('test/accuracy') is not None]
  rounds = [one['round'] for one in tested]
  reached = metrics.rounds_to_target(
      rounds, [one['test/accuracy'] for one in tested], target)
  last = records[-1]['round'] if records else 0
  last = last if done is None else done
  until = last if reached is None else next(r for r in rounds if r >= reached)
  lost = sorted(set(range(1, until + 1)) - {one['round'] for one in records})
  if lost:
    return f'unknown, since metrics of {metrics.ranges(lost)} are lost'
  return 'not reached' if reached is None else f'{reached:.1f}'


def check_tensorboard(enabled: bool) -> None:
  """ValueError if events are asked for, and tensorboardX is not installed."""
  if enabled and not importlib.util.find_spec('tensorboardX'):
    raise ValueError('tensorboard = True needs tensorboardX: '
                     "pip install 'fedjax_sim[tensorboard]'.")

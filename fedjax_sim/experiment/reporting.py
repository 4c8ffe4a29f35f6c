"""What a run prints: header, progress, closing table."""

import contextlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from fedjax_sim.experiment import metrics, processes
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


class Progress:
  """A bar on a terminal; elsewhere a plain line for each evaluation.

  Tells first how long it took until there were records, from `begun`, a time of
  `time.perf_counter`; None leaves that out.
  """

  def __init__(self, start: int, stop: int, targets: Sequence[float],
               begun: float | None = None):
    self._stop, self._targets = stop, sorted(targets)
    self._begun, self._told = begun, False
    self._best = -np.inf
    self._bar = None
    if sys.stdout.isatty():
      from tqdm import tqdm
      self._bar = tqdm(total=stop, initial=start, unit='round',
                       file=sys.stdout, dynamic_ncols=True)

  def update(self, records: Sequence[Record]) -> None:
    """Shows new records."""
    if self._begun is not None and records:
      self._say(f'first round after {time.perf_counter() - self._begun:.1f} s')
      self._begun = None
    for record in records:
      if 'test/accuracy' in record:
        self._print(record)
    if self._bar is not None:
      self._bar.update(len(records))

  def diverged(self, error: DivergenceError, then: str) -> None:
    """Says so once, where the run is to 'continue'; not where to 'stop'."""
    if then == 'continue' and not self._told:
      self._say(f'{error} Carrying on, as on_divergence says.')
      self._told = True

  def _print(self, record: Record) -> None:
    accuracy = record['test/accuracy']
    reached = [t for t in self._targets if self._best < t <= accuracy]
    self._best = max(self._best, accuracy)
    line = (f'round {record["round"]:>{len(str(self._stop))}}/{self._stop}  '
            f'test accuracy {accuracy:.4f}  '
            f'test loss {record["test/loss"]:.4f}')
    if 'train/loss' in record:
      line += f'  train loss {record["train/loss"]:.4f}'
    for target in reached:
      line += f'  <- reached {target:.1%}'
    if self._bar is None or reached:
      self._say(line)
    if self._bar is not None:
      self._bar.set_postfix_str(f'test accuracy {accuracy:.4f}')

  def _say(self, line: str) -> None:
    if self._bar is None:
      print(line, flush=True)
    else:
      self._bar.write(line, file=sys.stdout)

  def close(self) -> None:
    """Leaves the terminal clean."""
    if self._bar is not None:
      self._bar.close()


def closing_fields(
    records: Sequence[Record], targets: Sequence[float]
) -> dict[str, str]:
  """The closing table, from those of metrics.jsonl."""
  tested = [one for one in records if one.get('test/accuracy') is not None]
  rounds = np.array([one['round'] for one in tested])
  accuracy = np.array([one['test/accuracy'] for one in tested])
  fields = {'rounds': f'{records[-1]["round"]}'}
  if tested:
    best = int(np.argmax(accuracy))
    fields |= {
        'best test accuracy': f'{accuracy[best]:.4f} (round {rounds[best]})',
        'final test accuracy': f'{accuracy[-1]:.4f}',
        'mean of the last ten': f'{np.mean(accuracy[-10:]):.4f} '
                                f'({len(accuracy[-10:])} evaluations)',
    }
    for target in sorted(targets):
      reached = metrics.rounds_to_target(rounds, accuracy, target)
      fields[f'rounds to {target:.1%}'] = (
          'not reached' if reached is None else f'{reached:.1f}')
  seconds = [one['seconds'] for one in records]
  padded = [one['padded_steps'] for one in records if one.get('padded_steps')]
  if padded:
    fields['padded steps'] = f'{np.mean(padded):.1%} of those computed'
  fields |= {
      'seconds a round': f'{np.median(seconds):.3f} (median, with evaluation)',
      'bytes up': byte_text(sum(one['bytes_up'] for one in records)),
      'bytes down': byte_text(sum(one['bytes_down'] for one in records)),
  }
  return fields


def check_tensorboard(enabled: bool) -> None:
  """ValueError if events are asked for, and tensorboardX is not installed."""
  if enabled and not importlib.util.find_spec('tensorboardX'):
    raise ValueError('tensorboard = True needs tensorboardX: '
                     "pip install 'fedjax_sim[tensorboard]'.")


@contextlib.contextmanager
def event_writer(
    folder: Path, enabled: bool
) -> Iterator[Callable[[Sequence[Record]], None]]:
  """Writes records as TensorBoard events, where asked; in the first process."""
  if not enabled or not processes.is_first():
    yield lambda records: None
    return
  from tensorboardX import SummaryWriter

  def write(records):
    for record in records:
      for name, value in record.items():
        if name != 'round':
          writer.add_scalar(name, value, record['round'])
    writer.flush()

  with SummaryWriter(str(folder / 'tensorboard')) as writer:
    yield write

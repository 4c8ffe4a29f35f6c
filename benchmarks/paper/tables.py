"""Tables 1 to 4 in Markdown: ours beside the paper's.

What is not finished takes no row: it is named below, or folded away.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.paper import published, results
from benchmarks.paper.cells import BY_KEY, PARTITIONS, TASKS, Cell, centered
from benchmarks.paper.published import Entry

_ALGORITHMS = {'sgd': 'SGD, B = 100', 'fedsgd': 'FedSGD',
               'fedavg': 'FedAvg, E = 5, B = 50'}
_HEAD = ('| {} | u | paper | ours | ours / paper | speedup, paper '
         '| speedup, ours | rate |', '|---|--:|--:|--:|--:|--:|--:|--:|')
_CENTERED = (' centered pixels | / paper |', '--:|--:|')
TITLES = {
    1: 'Table 1: the fraction of clients in a round',
    2: 'Table 2: FedSGD and FedAvg',
    3: 'Table 3: CIFAR-10',
    4: 'Table 4: the 2NN',
}


class Row(NamedTuple):
  """A published cell: its label, the cell, the target, the paper's figure."""

  label: str
  cell: Cell
  target: float
  paper: int | None


class Block(NamedTuple):
  """Rows with one base of speedups, the first row.

  Attributes:
    title: what all rows share.
    head: of the column of labels.
    base: name of the first row, for the text.
    rows: as printed in the paper.
  """

  title: str
  head: str
  base: str
  rows: tuple[Row, ...]


def blocks(table: int) -> Iterator[Block]:
  """The blocks of a table, 1 to 4."""
  entries = [e for e in published.entries() if e.table == table]
  if table == 3:
    yield from _cifar(entries)
    return
  fixed = _fixed_in_table_1 if table == 1 else _fixed_in_tables_2_and_4
  label = _fraction if table == 1 else _epochs_and_batch
  base = 'C = 0' if table == 1 else 'FedSGD'
  for title, group in itertools.groupby(entries, fixed):
    rows = (Row(label(e), _cell(e), TASKS[e.model].targets[0], e.rounds[0])
            for e in group)
    yield Block(title, 'C' if table == 1 else 'E, B', base, tuple(rows))


def section(table: int, records: Mapping[str, Any]) -> str:
  """A table of the paper: its blocks, then folded those without a finished row.

  Args:
    table: 1 to 4.
    records: those of the store.
  """
  parts, folded, rows = [f'## {TITLES[table]}'], [], 0
  for block in blocks(table):
    if any(_told(row, records) for row in block.rows):
      parts += [f'**{block.title}.** Speedups over {block.base}.',
                render(block, records)]
    else:
      folded.append(f'- {block.title}. {block.head}: '
                    f'{_without(block.rows, records)}.')
      rows += len(block.rows)
  if folded:
    parts.append(fold(f"Not finished: {rows} rows, and the paper's figures",
                      '\n'.join(folded)))
  return '\n\n'.join(parts)


def fold(title: str, text: str) -> str:
  """Markdown that is shown once a reader asks for it."""
  return (f'<details>\n<summary>{title}</summary>\n\n{text}\n\n'
          '</details>')


def render(block: Block, records: Mapping[str, Any]) -> str:
  """A block as a Markdown table, and a line with the rows that are not run."""
  found = [results.of(row.cell, records.get(row.cell.key), row.target)
           for row in block.rows]
  with_centered = any(cell.key in records for row in block.rows
                      for cell in centered([row.cell]))
  head = [line + more if with_centered else line
          for line, more in zip(_HEAD, _CENTERED, strict=True)]
  lines = [head[0].format(block.head), head[1]]
  for row, result in zip(block.rows, found, strict=True):
    if not _told(row, records):
      continue
    fields = [
        row.label, f'{row.cell.u:.4g}' if row.cell.unit == 1 else '-',
        _paper(row), results.text(result), _ratio(result, row.paper),
        _speedup(block.rows[0].paper, row.paper),
        _our_speedup(found[0], result), result.rate or '-']
    if with_centered:
      fields += _centered(row, records)
    lines.append(f'| {" | ".join(fields)} |')
  missing = [row for row in block.rows if not _told(row, records)]
  if missing:
    lines.append("\nNot finished, with the paper's figure: "
                 f'{_without(missing, records)}.')
  return '\n'.join(lines)


def tried(records: Mapping[str, Any]) -> str:
  """A line for each cell that was run: the rates, and which diverged."""
  lines = []
  for key, record in sorted(records.items()):
    cell = BY_KEY.get(key.removesuffix('/centered'))
    if cell:
      rates = results.of(cell, record, cell.targets[-1]).tried
      lines.append(f'- {key}: {", ".join(rates)}')
  return '\n'.join(lines)


def _told(row: Row, records: Mapping[str, Any]) -> bool:
  """Whether a row is finished or bounded, with whichever pixels."""
  found = [results.of(cell, records.get(cell.key), row.target)
           for cell in (row.cell, *centered([row.cell]))]
  return any(result.state == 'done' or result.reached for result in found)


def _paper(row: Row) -> str:
  return 'not reached' if row.paper is None else f'{row.paper:,}'


def _without(rows: Sequence[Row], records: Mapping[str, Any]) -> str:
  """The rows' labels and the paper's figures, and how far ours have come."""
  told = []
  for row in rows:
    result = results.of(row.cell, records.get(row.cell.key), row.target)
    ours = '' if result.state == 'not run' else f', ours {results.text(result)}'
    told.append(f'{row.label} ({_paper(row)}{ours})')
  return '; '.join(told)


def _centered(row: Row, records: Mapping[str, Any]) -> tuple[str, str]:
  """The cell with pixels from -0.5 to 0.5, and its ratio to the paper."""
  for cell in centered([row.cell]):
    if cell.key in records:
      result = results.of(cell, records[cell.key], row.target)
      return results.text(result), _ratio(result, row.paper)
  return '-', '-'


def ratio(result: results.Result, paper: int | None) -> float | None:
  """Ours over the paper's; None where either was not reached."""
  return result.median / paper if paper and result.reached else None


def _ratio(result: results.Result, paper: int | None) -> str:
  value = ratio(result, paper)
  if value is None:
    return '-'
  return ('≤ ' if result.state == 'partial' else '') + f'{value:.2f}'


def _our_speedup(base: results.Result, result: results.Result) -> str:
  """Of finished cells only: others are bounds, whose quotient says nothing."""
  known = [r.median if r.state == 'done' and r.reached else None
           for r in (base, result)]
  return _speedup(*known)


def _speedup(base: float | None, rounds: float | None) -> str:
  return f'{base / rounds:.1f}×' if base and rounds else '-'


def _cifar(entries: list[Entry]) -> Iterator[Block]:
  task = TASKS['cifar_cnn']
  for i, target in enumerate(task.targets):
    rows = (Row(_ALGORITHMS[e.algorithm], _cell(e), target, e.rounds[i])
            for e in entries)
    yield Block(f'{task.title}, {target:.0%}, IID, C = 0.1', 'algorithm', 'SGD',
                tuple(rows))


def _fixed_in_table_1(entry: Entry) -> str:
  return (f'{_fixed_in_tables_2_and_4(entry)}, E = {entry.E}, '
          f'B = {_batch(entry.B)}')


def _fixed_in_tables_2_and_4(entry: Entry) -> str:
  task = TASKS[entry.model]
  return f'{task.title}, {task.targets[0]:.0%}, {PARTITIONS[entry.partition]}'


def _fraction(entry: Entry) -> str:
  return f'{entry.C:g}'


def _epochs_and_batch(entry: Entry) -> str:
  if entry.algorithm == 'fedsgd':
    return 'FedSGD: 1, ∞'
  return f'{entry.E}, {_batch(entry.B)}'


def _batch(B: int | None) -> str:
  return '∞' if B is None else str(B)


def _cell(entry: Entry) -> Cell:
  return BY_KEY[Cell(*entry[1:-1], (), {}).key]

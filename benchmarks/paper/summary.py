"""How ours compares with the paper over all rows: ratios, orders, a plot.

Only finished rows with a figure in both are compared.
"""

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.paper import results, tables
from benchmarks.paper.cells import PARTITIONS, TASKS, Cell, centered
from benchmarks.paper.tables import Block, Row
from fedjax_sim.core import files

# A row within this factor of the paper's figure agrees with it.
FACTOR = 1.5
# Figures of the paper that are closer than this are not in any order.
_APART = 1.1
_COLORS = {'mnist_2nn': '#2f6fb0', 'mnist_cnn': '#d1622b',
           'shakespeare_lstm': '#3a9a5b', 'cifar_cnn': '#8b5fb5'}
_MARKERS = {'iid': 'o', 'noniid': '^', 'role': 's', 'central': 'D'}
_GRAY = '#8a949e'


class Compared(NamedTuple):
  """A finished row: the paper's rounds, and ours (the median over seeds)."""

  row: Row
  cell: Cell
  paper: int
  ours: float

  @property
  def ratio(self) -> float:
    return self.ours / self.paper


def blocks() -> Iterator[Block]:
  """All blocks of the four tables."""
  for table in tables.TITLES:
    yield from tables.blocks(table)


def compared(
    rows: Sequence[Row], records: Mapping[str, Any], pixels: str = 'zero_to_one'
) -> list[Compared]:
  """The finished rows among these, with pixels of this range."""
  found = []
  for row in rows:
    cells = [row.cell] if pixels == 'zero_to_one' else centered([row.cell])
    for cell in cells:
      result = results.of(cell, records.get(cell.key), row.target)
      if result.state == 'done' and result.reached and row.paper:
        found.append(Compared(row, cell, row.paper, result.median))
  return found


def counts(records: Mapping[str, Any]) -> str:
  """How many rows there are, and how many agree."""
  rows = [row for block in blocks() for row in block.rows]
  states = [results.of(row.cell, records.get(row.cell.key), row.target).state
            for row in rows]
  text = (f'Of the {len(rows)} rows of the tables {states.count("done")} are '
          f'finished, {states.count("partial")} begun and '
          f'{states.count("not run")} not run.')
  for pixels, name in (('zero_to_one', 'have a figure in both'),
                       ('centered', 'are computed with centered pixels too')):
    ratios = [c.ratio for c in compared(rows, records, pixels)]
    if ratios:
      near = sum(1 / FACTOR <= r <= FACTOR for r in ratios)
      text += (f' {len(ratios)} {name}; of these, {near} lie within a factor '
               f"of {FACTOR} of the paper's.")
  return text + (' (A run may stand in two tables, or be a row for each '
                 'target.)')


def ratios(records: Mapping[str, Any]) -> str:
  """A table: a line for each model and partition."""
  groups = {}
  for row in (row for block in blocks() for row in block.rows):
    groups.setdefault((row.cell.model, row.cell.partition), []).append(row)
  lines = ['| | rows | finished | ours / paper: median (range) '
           '| with centered pixels |', '|---|--:|--:|--:|--:|']
  without = []
  for (model, partition), rows in groups.items():
    done = sum(results.of(r.cell, records.get(r.cell.key), r.target).state
               == 'done' for r in rows)
    if not done:
      without.append(f'{TASKS[model].title} {PARTITIONS[partition]} '
                     f'({len(rows)} rows)')
      continue
    told = [_spread([c.ratio for c in compared(rows, records, pixels)])
            for pixels in ('zero_to_one', 'centered')]
    lines.append(
        f'| {TASKS[model].title}, {PARTITIONS[partition]} | {len(rows)} '
        f'| {done} | {" | ".join(told)} |')
  if without:
    lines.append(f'\nNothing is finished of {", ".join(without)}.')
  return '\n'.join(lines)


def _spread(values: Sequence[float]) -> str:
  if not values:
    return '-'
  text = f'{statistics.median(values):.2f}'
  if len(values) == 1:
    return f'{text}, one row'
  return f'{text} ({min(values):.2f} to {max(values):.2f}), {len(values)} rows'


def orders(records: Mapping[str, Any]) -> tuple[int, int]:
  """Pairs of rows of a block that are ordered alike, and how many there are."""
  alike = []
  for block in blocks():
    for one, two in itertools.combinations(compared(block.rows, records), 2):
      less, more = sorted([one, two], key=lambda c: c.paper)
      if more.paper > _APART * less.paper:
        alike.append(less.ours < more.ours)
  return sum(alike), len(alike)


def speedups(records: Mapping[str, Any]) -> dict[tuple[str, str], list[float]]:
  """Our speedup over the paper's, of each row but the first of its block.

  By the first row's name and the partition; only of blocks whose first row is
  finished.
  """
  found = {}
  for block in blocks():
    base, *others = compared(block.rows, records) or [None]
    if base is None or base.row != block.rows[0]:
      continue
    for one in others:
      key = block.base, PARTITIONS[one.cell.partition]
      found.setdefault(key, []).append(base.ratio / one.ratio)
  return found


def order_sentence(records: Mapping[str, Any]) -> list[str]:
  """How many pairs are ordered alike; [] without a pair."""
  alike, pairs = orders(records)
  if not pairs:
    return []
  return [f'Of {pairs} pairs of finished rows of one block whose figures in '
          'the paper are more than a tenth apart, ours are in the same order '
          f'in {alike}.']


def speedup_table(records: Mapping[str, Any]) -> list[str]:
  """A line for each base and partition; [] without a speedup."""
  lines = [f'| {base} | {partition} | {_spread(values)} |'
           for (base, partition), values in speedups(records).items()]
  head = ["| speedups over | clients | ours / the paper's: median (range) |",
          '|---|---|--:|']
  return ['\n'.join(head + lines)] if lines else []


def draw(records: Mapping[str, Any], path: Path) -> bool:
  """Ours against the paper's on log axes; whether there was anything to draw.

  A color a model, a marker a partition, open where pixels are centered.
  """
  rows = [row for block in blocks() for row in block.rows]
  plain = compared(rows, records)
  moved = compared(rows, records, 'centered')
  if not plain + moved:
    return False
  from matplotlib.figure import Figure  # Here: it takes a second.
  canvas = Figure(figsize=(6.4, 5.6), layout='constrained', dpi=110)
  axes = canvas.subplots()
  values = [v for c in plain + moved for v in (c.paper, c.ours)]
  low, high = min(values) / 1.6, max(values) * 1.6
  for factor, alpha in ((3, 0.10), (FACTOR, 0.18)):
    axes.fill_between([low, high], [low / factor, high / factor],
                      [low * factor, high * factor], color=_GRAY, alpha=alpha,
                      linewidth=0, label=f'within a factor of {factor:g}')
  axes.plot([low, high], [low, high], color=_GRAY, linewidth=1)
  for found, is_open in ((plain, False), (moved, True)):
    for key in sorted({(c.cell.model, c.cell.partition) for c in found}):
      own = [c for c in found if (c.cell.model, c.cell.partition) == key]
      _draw_group(axes, own, *key, is_open)
  axes.set(xscale='log', yscale='log', xlim=(low, high), ylim=(low, high),
           xlabel="the paper's rounds", ylabel='ours')
  axes.set_aspect('equal')
  axes.spines[['top', 'right']].set_visible(False)
  axes.legend(frameon=False, fontsize=8, loc='upper left')
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as file:
    canvas.savefig(file, format='png', metadata={'Software': None})
  return True


def _draw_group(axes, own: Sequence[Compared], model, partition, is_open):
  color = _COLORS[model]
  axes.plot([c.paper for c in own], [c.ours for c in own],
            _MARKERS[partition], color=color, linestyle='none', markersize=6,
            markerfacecolor='white' if is_open else color,
            label=f'{TASKS[model].title}, {PARTITIONS[partition]}'
                  + (', centered pixels' if is_open else ''))

"""docs/paper.md and its figures, from the store alone."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.paper import cells, figures, results, store, tables
from benchmarks.paper.cells import BY_KEY
from fedjax_sim.core import files

DOCS = Path(__file__).parents[2] / 'docs'
NOTES = Path(__file__).parent / 'notes.md'
# A cell within this factor of the paper's figure agrees with it.
FACTOR = 1.5

_TITLES = {
    1: 'Table 1: the fraction of clients in a round',
    2: 'Table 2: FedSGD and FedAvg',
    3: 'Table 3: CIFAR-10',
    4: 'Table 4: the 2NN',
}
_INTRODUCTION = """\
# The paper, cell by cell

Tables 1 to 4 and figures 1 to 10 of McMahan, Moore, Ramage, Hampson, Agüera y
Arcas, *Communication-Efficient Learning of Deep Networks from Decentralized
Data* (AISTATS 2017, arXiv:1602.05629), computed by fedjax_sim. Written by
`python -m benchmarks.paper report` from `benchmarks/results/paper/cells.jsonl`;
`python -m benchmarks.paper run` computes what is missing.

A figure is the number of communication rounds until the best test accuracy so
far reaches the target, by linear interpolation between evaluations, at the
learning rate that is best for the cell. Ours is the median over seeds, with
their range. C is the fraction of clients in a round (0 is one client), E the
local epochs, B the local batch size (∞ is all of a client's data), u = En/(KB)
the local updates of a client in a round. A speedup is over the first row of
the same table, in the paper and in ours. Ours may be a bound while a cell is
not finished: "at most", where rates are still to be tried, and "more than",
where no rate has reached the target yet. The last two columns: the same cell
with pixels from -0.5 to 0.5 where the others have 0 to 1."""
_FIGURE_1 = ('Training loss on the way between two models, trained apart from '
             'different initialisations and from a shared one')


def write(
    store_path: Path = store.STORE, docs: Path = DOCS, notes: Path = NOTES
) -> Path:
  """Writes the page `docs`/paper.md, and figures in `docs`/paper.

  Args:
    store_path: of the store; it need not exist.
    docs: a folder; figure1.png is shown if its folder `paper` has it.
    notes: Markdown, the text of the section on deviations.

  Returns:
    The page's path.
  """
  records = store.read(store_path)
  folder = docs / 'paper'
  drawn = {n for n, figure in figures.FIGURES.items()
           if figures.draw(figure, records, folder / f'figure{n}.png')}
  if (folder / 'figure1.png').exists():
    drawn.add(1)
  docs.mkdir(parents=True, exist_ok=True)
  with files.replacing(docs / 'paper.md') as file:
    file.write(page(
        records, drawn, notes.read_text(),
        _beside(store_path, 'causes'),
        _beside(store_path, 'comparisons')).encode())
  return docs / 'paper.md'


def page(
    records: Mapping[str, Any], drawn: Collection[int], notes: str,
    causes: Sequence[Mapping[str, Any]] = (),
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> str:
  """The page, in Markdown.

  Args:
    records: those of the store.
    drawn: numbers of the figures that there are.
    notes: the text of the section on deviations.
    causes: lines of `benchmarks.paper.causes`.
    comparisons: lines of `benchmarks.paper.comparisons`.
  """
  parts = [_INTRODUCTION, _summary(records)]
  for table, title in _TITLES.items():
    parts.append(f'## {title}')
    for block in tables.blocks(table):
      parts += [f'**{block.title}.** Speedups over {block.base}.',
                tables.render(block, records)]
  parts += ['## Figures', *_figures(records, drawn)]
  parts += ['## Where ours differs from the paper', notes.strip()]
  if causes:
    parts += ['### Two cells, other ways', _causes(causes)]
  if comparisons:
    parts += ['## Averaging once, and uniform averages',
              _comparisons(comparisons)]
  parts += ['## What it was computed on', _origins(records)]
  return '\n\n'.join(parts) + '\n'


def _summary(records: Mapping[str, Any]) -> str:
  """How many cells there are, and how many agree."""
  rows = [row for table in _TITLES for block in tables.blocks(table)
          for row in block.rows]
  states = [results.of(row.cell, records.get(row.cell.key), row.target).state
            for row in rows]
  plain, within = _agreeing(rows, records, lambda cell: [cell])
  centered, near = _agreeing(rows, records, lambda cell: cells.centered([cell]))
  return (f'Of the {len(rows)} rows of the tables {states.count("done")} are '
          f'finished, {states.count("partial")} begun, '
          f'{states.count("not run")} not run. Of the {plain} finished ones '
          f'with a figure in both, {within} are within a factor of {FACTOR} of '
          f'the paper\'s; of {centered} with centered pixels, {near}. (A run '
          'may stand in two tables, or be a row for each target.)')


def _agreeing(rows, records: Mapping[str, Any], variant) -> tuple[int, int]:
  """Finished cells with a figure in both, and those that agree."""
  found = [(results.of(cell, records[cell.key], row.target), row.paper)
           for row in rows for cell in variant(row.cell)
           if cell.key in records]
  ratios = [tables.ratio(result, paper) for result, paper in found
            if result.state == 'done']
  ratios = [r for r in ratios if r is not None]
  return len(ratios), sum(1 / FACTOR <= r <= FACTOR for r in ratios)


def _figures(records: Mapping[str, Any], drawn: Collection[int]) -> list[str]:
  """Each figure, or the cells that it lacks."""
  parts = [
      'Curves are the best test accuracy so far, the median over seeds, with '
      'the range shaded; training losses are as they are. Gray lines are '
      "targets, open circles on them the paper's rounds.",
      '### Figure 1', f'{_FIGURE_1}.',
      _image(1) if 1 in drawn else 'Not run.']
  for n, figure in figures.FIGURES.items():
    parts += [f'### Figure {n}', f'{figure.caption}.']
    if n in drawn:
      parts.append(_image(n))
    missing = figures.missing(figure, records)
    if missing:
      keys = ', '.join(f'`{key}`' for key in missing)
      parts.append(f'{"" if n in drawn else "Not drawn. "}Not run: {keys}.')
  return parts


def _image(n: int) -> str:
  return f'![Figure {n}](paper/figure{n}.png)'


def _beside(store_path: Path, name: str) -> list[dict[str, Any]]:
  """The lines of another file of results in the folder of the store."""
  file = Path(store_path).parent / f'{name}.jsonl'
  if not file.exists():
    return []
  return [json.loads(line) for line in file.read_text().splitlines()]


def _causes(causes: Sequence[Mapping[str, Any]]) -> str:
  """Median rounds of each way, for both cells."""
  iid = [line for line in causes if line['clients'] == 'IID']
  apart = [line for line in causes if line['clients'] == 'non-IID']
  parts = ['The 2NN, C = 0.1, E = 1, B = 10: rounds to 97% with other initial '
           'weights and scales of pixels, medians of 3 seeds. '
           '`python -m benchmarks.paper.causes`']
  if iid:
    parts.append(
        'IID (92 rounds in table 4, 87 in table 1), by learning rate (with '
        'pixels up to 255, that divided by 255²):\n\n' + _by_rate(iid))
  if apart:
    parts.append(
        'Non-IID (831 rounds in table 4, 664 in table 1), at the best of three '
        'rates, by the number of rounds between evaluations; in brackets the '
        'rate. Accuracy jumps from round to round, so fewer looks find its '
        'peaks later:\n\n' + _by_evaluations(apart))
  return '\n\n'.join(parts)


def _by_rate(causes: Sequence[Mapping[str, Any]]) -> str:
  """A line a way, a column a rate."""
  own = list(causes[0]['crossings'])
  lines = ['| way | best | ' + ' | '.join(own) + ' |',
           '|---|--:|' + '--:|' * len(own)]
  for line in causes:
    medians = [results.median(c) for c in line['crossings'].values()]
    told = [_rounds(m, line['limit']) for m in medians]
    best = f'{told[medians.index(min(medians))]} at {line["best_rate"]}'
    lines.append(f'| {line["way"]} | {best if min(medians) < math.inf else "-"}'
                 f' | {" | ".join(told)} |')
  return '\n'.join(lines)


def _by_evaluations(causes: Sequence[Mapping[str, Any]]) -> str:
  """A line a way, a column for each number of rounds between evaluations."""
  every = list(causes[0]['evaluated_every'])
  lines = ['| way | ' + ' | '.join(map(_interval, every)) + ' |',
           '|---|' + '--:|' * len(every)]
  for line in causes:
    found = line['evaluated_every'].values()
    told = [f'{_rounds(results.median(c["crossings"]), line["limit"])} '
            f'({c["best_rate"]})' for c in found]
    lines.append(f'| {line["way"]} | {" | ".join(told)} |')
  return '\n'.join(lines)


def _interval(every: str) -> str:
  return 'every round' if every == '1' else f'every {every}'


def _rounds(median: float, limit: int) -> str:
  return results.number(median) if median < math.inf else f'> {limit}'


def _comparisons(comparisons: Sequence[Mapping[str, Any]]) -> str:
  """Final accuracies, a table for each topic."""
  texts = {
      'one shot': 'All 100 clients, 20 local epochs in all (2NN, B = 10), '
                  'averaged after every so many of them:',
      'weights': 'Clients of unequal sizes weighed by their examples or all '
                 'alike (2NN; FedSGD 100 rounds, FedAvg 50, C = 0.1). Where '
                 'all sizes are the same the two are one:'}
  parts = ['Final test accuracy, the median over '
           f'{len(comparisons[0]["seeds"])} seeds and their range, at the best '
           'of three rates (marked where that is the largest or the least, so '
           'that a better one may lie beyond). '
           '`python -m benchmarks.paper.comparisons`']
  known = {line['topic'] for line in comparisons}
  for topic, text in texts.items():
    if topic not in known:
      continue
    lines = [text, '', '| clients | way | accuracy | rate |',
             '|---|---|--:|--:|']
    for line in (line for line in comparisons if line['topic'] == topic):
      own = sorted(a or 0.0 for a in line['accuracy'][line['best_rate']])
      lines.append(
          f'| {line["clients"]} | {line["way"]} | {100 * line["median"]:.1f}% '
          f'({100 * own[0]:.1f} to {100 * own[-1]:.1f}) | '
          f'{line["best_rate"]}{_edge(line)} |')
    parts.append('\n'.join(lines))
  return '\n\n'.join(parts)


def _edge(line: Mapping[str, Any]) -> str:
  """Whether the best rate lies at an end of those tried."""
  rates = sorted(line['accuracy'], key=float)
  ends = {rates[0]: ', the least', rates[-1]: ', the largest'}
  return ends.get(line['best_rate'], '')


def _origins(records: Mapping[str, Any]) -> str:
  """Cells and hours by device, versions and commit, latest last."""
  groups = {}
  for record in sorted(records.values(), key=lambda record: record['date']):
    versions = ', '.join(f'{k} {v}' for k, v in record['versions'].items())
    groups.setdefault(
        (record['device'], record['commit'][:10], versions), []).append(record)
  if not groups:
    return 'Nothing yet.'
  lines = ['| device | commit | versions | cells | hours | dates |',
           '|---|---|---|--:|--:|---|']
  for (device, commit, versions), group in groups.items():
    hours = sum(record['seconds'] for record in group) / 3600
    dates = dict.fromkeys([group[0]['date'], group[-1]['date']])
    lines.append(f'| {device} | `{commit}` | {versions} | {len(group)} '
                 f'| {hours:.2f} | {" to ".join(dates)} |')
  notes = [f'- `{key}`: {record["notes"]}' for key, record in records.items()
           if record.get('notes')]
  unknown = [key for key in records
             if key.removesuffix('/centered') not in BY_KEY]
  if unknown:
    notes.append(f'- In the store, but no cell: {", ".join(unknown)}.')
  return '\n'.join(lines) + ('\n\n' + '\n'.join(notes) if notes else '')

"""docs/paper.md and its figures, from the store alone."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.paper import figures, side_tables, store, summary, tables
from benchmarks.paper.cells import BY_KEY
from fedjax_sim.core import files

DOCS = Path(__file__).parents[2] / 'docs'
# Text between the numbers: a section for each `# heading`.
NOTES = Path(__file__).parent / 'notes.md'

_INTRODUCTION = """\
# The paper, cell by cell

Tables 1 to 4 and figures 1 to 10 of McMahan, Moore, Ramage, Hampson, Agüera y
Arcas, *Communication-Efficient Learning of Deep Networks from Decentralized
Data* (AISTATS 2017, arXiv:1602.05629), computed by fedjax_sim. What is counted
is communication rounds until the best test accuracy so far reaches a target.

This page is written by `python -m benchmarks.paper report` from
`benchmarks/results/paper`; `python -m benchmarks.paper run` computes what is
missing, see [reproduction](reproduction.md)."""
_PLOT = """\
![Our rounds against the paper's](paper/rounds.png)

*Rounds to the target, ours against the paper's: a point for each finished row
with a figure in both. On the line they are equal.*"""
_READING = """\
Rounds are found by linear interpolation between evaluations, at the learning
rate that is best for the row. Ours are the median over seeds, with their range.
C is the fraction of clients in a round (0 is one client), E the local epochs, B
the local batch size (∞ is all of a client's data), u = En/(KB) the local
updates of a client in a round. Speedups are over the first row of a block, in
the paper and in ours. While a row is not finished, ours is a bound: "at most"
where rates are still to be tried, "more than" where none has reached the target
yet. Where there are two more columns, they have the same row with pixels from
-0.5 to 0.5 ("centered"), where the others have 0 to 1."""
_CURVES = """\
Curves are the best test accuracy so far, the median over seeds, with the range
shaded; training losses are as they are. Gray lines are targets, open circles on
them the paper's rounds. Curves of CIFAR-10, Shakespeare and the word model were
begun on two CPU cores and cut off; to the end they need a GPU."""
_FIGURE_1 = ('Training loss on the way between two models, trained apart from '
             'different initialisations and from a shared one')


def write(
    store_path: Path = store.STORE, docs: Path = DOCS, notes: Path = NOTES
) -> Path:
  """Writes the page `docs`/paper.md, and figures in `docs`/paper.

  Args:
    store_path: of the store; it need not exist.
    docs: a folder; figure1.png is shown if its folder `paper` has it.
    notes: Markdown; see `page`.

  Returns:
    The page's path.
  """
  records = store.read(store_path)
  folder = docs / 'paper'
  drawn = {n for n, figure in figures.FIGURES.items()
           if figures.draw(figure, records, folder / f'figure{n}.png')}
  if (folder / 'figure1.png').exists():
    drawn.add(1)
  if summary.draw(records, folder / 'rounds.png'):
    drawn.add('rounds')
  docs.mkdir(parents=True, exist_ok=True)
  with files.replacing(docs / 'paper.md') as file:
    file.write(page(
        records, drawn, notes.read_text(),
        _beside(store_path, 'causes'),
        _beside(store_path, 'comparisons')).encode())
  return docs / 'paper.md'


def page(
    records: Mapping[str, Any], drawn: Collection[int | str], notes: str,
    causes: Sequence[Mapping[str, Any]] = (),
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> str:
  """The page, in Markdown.

  Args:
    records: those of the store.
    drawn: numbers of the figures that there are; 'rounds' for the plot.
    notes: Markdown, the text of the sections `_notes` lists.
    causes: lines of `benchmarks.paper.causes`.
    comparisons: lines of `benchmarks.paper.comparisons`.
  """
  own = _notes(notes)
  parts = [_INTRODUCTION, '## Summary', summary.counts(records),
           summary.ratios(records)]
  parts += [_PLOT] if 'rounds' in drawn else []
  parts += ['## Findings', '### What agrees', *own('What agrees'),
            *summary.order_sentence(records), '### What does not',
            *own('What does not'), *summary.speedup_table(records),
            '## How to read the tables', _READING]
  parts += [tables.section(table, records) for table in tables.TITLES]
  parts += ['## Figures', *_figures(records, drawn)]
  if causes:
    parts += ['## Two cells, other ways', side_tables.causes(causes)]
  if comparisons:
    parts += ['## Averaging once, and uniform averages',
              side_tables.comparisons(comparisons)]
  parts += ['## How ours is computed', *own('How ours is computed')]
  if records:
    parts += [tables.fold('Learning rates that were tried',
                          tables.tried(records)),
              tables.fold('Devices, versions and hours', _origins(records))]
  return '\n\n'.join(parts) + '\n'


def _notes(text: str):
  """`(heading) -> [its text]`, of text with lines `# heading`; [] if none."""
  sections = dict(
      part.split('\n', 1) for part in ('\n' + text).split('\n# ')[1:])
  return lambda heading: (
      [sections[heading].strip()] if sections.get(heading) else [])


def _figures(
    records: Mapping[str, Any], drawn: Collection[int | str]) -> list[str]:
  """Each figure, and how much of it there is."""
  parts = [_CURVES, '### Figure 1', f'{_FIGURE_1}.',
           _image(1) if 1 in drawn else 'Not run.']
  for n, figure in figures.FIGURES.items():
    parts += [f'### Figure {n}', f'{figure.caption}.']
    parts += [figures.completeness(figure, records)]
    if n in drawn:
      parts.append(_image(n))
  return parts


def _image(n: int) -> str:
  return f'![Figure {n}](paper/figure{n}.png)'


def _beside(store_path: Path, name: str) -> list[dict[str, Any]]:
  """The lines of another file of results in the folder of the store."""
  file = Path(store_path).parent / f'{name}.jsonl'
  if not file.exists():
    return []
  return [json.loads(line) for line in file.read_text().splitlines()]


def _origins(records: Mapping[str, Any]) -> str:
  """Cells and hours by device, versions and commit, latest last."""
  groups = {}
  for record in sorted(records.values(), key=lambda record: record['date']):
    # A checkout that isn't installed has no version, but its commit.
    versions = ', '.join(f'{name} {version}' for name, version
                         in record['versions'].items() if version)
    groups.setdefault(
        (record['device'], record['commit'][:10], versions), []).append(record)
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

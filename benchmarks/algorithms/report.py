"""The table and the plot of docs/algorithms.md, from the results alone."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_sim.core import files

DOCS = Path(__file__).parents[2] / 'docs'
_FIGURE = 'algorithms/curves.png'
_IMAGE = f'![Best test accuracy so far, by algorithm]({_FIGURE})'
_BLOCK = re.compile(
    r'(<!-- comparison -->\n).*?(<!-- end comparison -->)', re.S)
_COLUMNS = ('algorithm', 'setting', 'rounds to 75%', 'to 80%', 'last accuracy',
            "clients' own: mean", 'worst tenth', 'MB down', 'MB up', 'time')


Lines = Mapping[str, Mapping[str, Any]]


def write(
    lines: Lines, times: Lines, moved: Lines, docs: Path = DOCS) -> Path:
  """Fills the block of `docs`/algorithms.md, and draws the figure.

  Args:
    lines: name -> result line, 'fedavg' among them.
    times: name -> line of the time of a round.
    moved: name -> line of the bytes of a client in a round.
    docs: the folder.

  Returns:
    The page's path.
  """
  file_path = docs / 'algorithms.md'
  text = page(lines, times, moved, file_path.read_text())
  _draw(lines, docs / _FIGURE)
  with files.replacing(file_path) as file:
    file.write(text.encode())
  return file_path


def page(lines: Lines, times: Lines, moved: Lines, text: str) -> str:
  """The text of the page with the table of these results in it."""
  block = f'{table(lines, times, moved)}\n\n{_origin(lines)}\n\n{_IMAGE}\n'
  return _BLOCK.sub(lambda match: match[1] + block + match[2], text)


def table(lines: Lines, times: Lines, moved: Lines) -> str:
  """One row for each algorithm."""
  rows = [f'| {" | ".join(_COLUMNS)} |',
          '|---|---|' + '--:|' * (len(_COLUMNS) - 2)]
  for line in lines.values():
    setting = ', '.join(f'{k} {v:g}' for k, v in line['best'].items())
    own = [np.median([seed[f'accuracy/{name}'] for seed in line['own']])
           for name in ('mean', 'p10')]
    cells = (
        line['name'], setting, *(_rounds(found) for found in
                                 line['rounds'].values()),
        _share(line['final']), *(f'{100 * a:.1f}%' for a in own),
        *(f'{moved[line["name"]][way] / 1e6:.2f}' for way in ('down', 'up')),
        f'{times[line["name"]]["ratio"]:.1f}' if line['name'] in times else '-')
    rows.append(f'| {" | ".join(cells)} |')
  return '\n'.join(rows)


def _rounds(found: list[float | None]) -> str:
  """Median and range; a run that never got there counts as the largest."""
  values = sorted(np.inf if f is None else f for f in found)
  told = [f'{v:.0f}' if np.isfinite(v) else 'never' for v in values]
  middle = told[len(told) // 2]
  if told[0] == told[-1]:
    return middle
  return f'{middle} ({told[0]} to {told[-1]})'


def _share(values: list[float | None]) -> str:
  if None in values:
    return 'diverged'
  return (f'{100 * np.median(values):.1f}% ({100 * min(values):.1f} to '
          f'{100 * max(values):.1f})')


def _origin(lines) -> str:
  last = list(lines.values())[-1]
  versions = last['environment']['versions']
  return (f'Medians of three seeds and their range; {len(lines)} algorithms; '
          f'{last["environment"]["machine"]}, jax {versions["jax"]}, '
          f'{last["date"]}.')


def _draw(lines, path: Path) -> None:
  """A panel a family: medians and ranges over seeds, FedAvg's in each."""
  from matplotlib.figure import Figure  # Here: it takes a second.
  families = dict.fromkeys(line['family'] for line in lines.values())
  families.pop(lines['fedavg']['family'])
  rows = -(-len(families) // 2)
  figure = Figure(figsize=(10, 3.6 * rows), layout='constrained', dpi=110)
  axes = list(figure.subplots(rows, 2, squeeze=False).flat)
  for panel, family in zip(axes, families, strict=False):
    _draw_curve(panel, lines['fedavg'], color='k', zorder=5)
    for line in lines.values():
      if line['family'] == family:
        _draw_curve(panel, line)
    panel.set_title(family, loc='left', fontsize=10)
    panel.set_xlabel('rounds')
    panel.set_ylabel('test accuracy, best so far')
    panel.set_xlim(0)
    panel.set_ylim(0.5, 0.9)
    panel.grid(alpha=0.2)
    panel.legend(fontsize=7, frameon=False, loc='lower right')
  for panel in axes[len(families):]:
    panel.set_axis_off()
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as file:
    figure.savefig(file, format='png', metadata={'Software': None})


def _draw_curve(panel, line, **style) -> None:
  whole = [curve for curve in line['curves'] if curve]
  length = min(map(len, whole), default=0)
  if length:
    best = np.maximum.accumulate([c[:length] for c in whole], axis=1)
    rounds = np.arange(1, length + 1)
    (drawn,) = panel.plot(rounds, np.median(best, axis=0), lw=1.2,
                          label=line['name'], **style)
    panel.fill_between(rounds, best.min(axis=0), best.max(axis=0), lw=0,
                       color=drawn.get_color(), alpha=0.1)

"""Figures 2 to 10 of the paper, drawn from the store alone.

Figure 1 needs no cell; `figure1.py` draws it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.paper.cells import BY_KEY, CELLS, PARTITIONS, TASKS, Cell
from fedjax_sim.core import files

_INK, _GRAY = '#22303c', '#8a949e'
_PALETTE = ('#2f6fb0', '#d1622b', '#3a9a5b', '#8b5fb5', '#c23b54', '#7a6a53',
            '#1d9aaa', '#b0902a', '#4d5a66')
_ALGORITHMS = {'fedavg': 'FedAvg', 'fedsgd': 'FedSGD', 'sgd': 'SGD'}


class Panel(NamedTuple):
  """Curves in one pair of axes.

  Attributes:
    title: above it.
    cells: one curve each.
    quantity: 'test_accuracy', made monotone, or 'train_loss'.
    updates: minibatch gradients of all clients along the x axis, not rounds.
  """

  title: str
  cells: tuple[Cell, ...]
  quantity: str = 'test_accuracy'
  updates: bool = False


class Figure(NamedTuple):
  """A figure: what it shows, and its panels."""

  caption: str
  panels: tuple[Panel, ...]


def completeness(figure: Figure, records: Mapping[str, Any]) -> str:
  """A sentence: how many of its curves there are, and how many are whole."""
  keys = dict.fromkeys(c.key for panel in figure.panels for c in panel.cells)
  run = [key for key in keys if _has_curve(records, key)]
  cut = sum(records[key]['state'] != 'done' for key in run)
  if not run:
    return 'Not run.'
  if len(run) == len(keys) and not cut:
    return f'Complete: {len(keys)} curves.'
  text = f'Partial: {len(run)} of {len(keys)} curves'
  return text + (f', {cut} of them of runs that were cut off.' if cut else '.')


def draw(figure: Figure, records: Mapping[str, Any], path: Path) -> bool:
  """Draws a figure, if there is a curve in it; says whether it did."""
  keys = {cell.key for panel in figure.panels for cell in panel.cells}
  if not any(_has_curve(records, key) for key in keys):
    return False
  from matplotlib.figure import Figure as Canvas  # Here: it takes a second.
  rows, columns = -(-len(figure.panels) // 2), min(len(figure.panels), 2)
  canvas = Canvas(figsize=(4.8 * columns, 3.6 * rows), layout='constrained',
                  dpi=110)
  axes = canvas.subplots(rows, columns, squeeze=False).flat
  for panel, place in zip(figure.panels, axes, strict=False):
    _draw_panel(place, panel, records)
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as file:
    canvas.savefig(file, format='png', metadata={'Software': None})
  return True


def monotone(values: Any) -> np.ndarray:
  """The best so far of each row of [S, P]; NaN and None are passed over."""
  return np.fmax.accumulate(np.array(values, float), axis=1)


def _has_curve(records: Mapping[str, Any], key: str) -> bool:
  return bool(records.get(key, {}).get('curve', {}).get('rounds'))


def _draw_panel(axes: Any, panel: Panel, records: Mapping[str, Any]) -> None:
  accuracy = panel.quantity == 'test_accuracy'
  for i, cell in enumerate(panel.cells):
    if _has_curve(records, cell.key):
      # The color is the cell's, whichever others there are.
      _draw_cell(axes, panel, cell, records[cell.key],
                 _PALETTE[i % len(_PALETTE)])
  axes.set_xscale('log')
  axes.set_title(panel.title, loc='left', fontsize=10, color=_INK)
  axes.set_xlabel(
      'minibatch updates' if panel.updates else 'communication rounds')
  axes.set_ylabel('test accuracy' if accuracy else 'training loss')
  axes.spines[['top', 'right']].set_visible(False)
  axes.grid(axis='y', color=_GRAY, alpha=0.15)
  if accuracy:
    _draw_targets(axes, panel.cells[0].targets)
  else:
    axes.set_yscale('log')
  if axes.get_legend_handles_labels()[0]:
    axes.legend(frameon=False, fontsize=7,
                loc='lower right' if accuracy else 'upper right')
  else:
    axes.text(0.5, 0.5, 'not run', transform=axes.transAxes, ha='center',
              color=_GRAY)


def _draw_cell(axes, panel: Panel, cell: Cell, record, color: str) -> None:
  """Median over seeds, range shaded, and the published rounds."""
  curve = record['curve']
  accuracy = panel.quantity == 'test_accuracy'
  values = np.array(curve[panel.quantity], float)
  if accuracy:
    values = monotone(values)
  scale = cell.cohort * cell.u if panel.updates else cell.unit
  whole = np.isfinite(values).any(axis=0)
  values, x = values[:, whole], np.array(curve['rounds'])[whole] * scale
  label = f'{_label(cell)}, rate {curve["rate"]}'
  axes.plot(x, np.nanmedian(values, axis=0), color=color, label=label,
            linewidth=1.4, marker='.' if len(x) == 1 else None)
  axes.fill_between(x, np.nanmin(values, axis=0), np.nanmax(values, axis=0),
                    color=color, alpha=0.18, linewidth=0)
  if accuracy:
    for figures in cell.published.values():
      for target, rounds in zip(cell.targets, figures, strict=True):
        if rounds is not None:
          axes.plot(rounds / cell.unit * scale, target, 'o', color=color,
                    markersize=4.5, markerfacecolor='white', zorder=4)


def _draw_targets(axes: Any, targets: tuple[float, ...]) -> None:
  for target in targets:
    axes.axhline(target, color=_GRAY, linewidth=0.8, zorder=1)
  # The steep start is cut off where the target is high.
  axes.set_ylim(bottom=max(0, 1 - 5 * (1 - targets[0])))


def _label(cell: Cell) -> str:
  if cell.algorithm != 'fedavg':
    return _ALGORITHMS[cell.algorithm]
  return f'E = {cell.E}, B = {"∞" if cell.B is None else cell.B}'


def _panels(model: str, keep, quantity: str = 'test_accuracy') -> tuple:
  """One panel for each partition of a model, of its cells with C = 0.1."""
  cells = [c for c in CELLS if c.model == model and c.C in (0.1, None)
           and keep(c)]
  cells.sort(key=lambda cell: cell.u)  # So FedSGD has the same color in all.
  return tuple(
      Panel(f'{TASKS[model].title}, {PARTITIONS[partition]}',
            tuple(c for c in cells if c.partition == partition), quantity)
      for partition in dict.fromkeys(c.partition for c in cells))


def _large_e(model: str) -> tuple[Panel, ...]:
  keep = lambda cell: cell.B == 10
  return _panels(model, keep) + _panels(model, keep, 'train_loss')


def _in_tables(cell: Cell) -> bool:
  return bool(cell.published)


_CIFAR = tuple(cell for cell in CELLS if cell.model == 'cifar_cnn')
_CURVES = 'test accuracy against rounds, C = 0.1'

FIGURES = {
    2: Figure(f'MNIST CNN and Shakespeare LSTM: {_CURVES}',
              _panels('mnist_cnn', _in_tables)
              + _panels('shakespeare_lstm', _in_tables)),
    3: Figure('Many local epochs between two averages: Shakespeare LSTM, '
              'B = 10, C = 0.1. The paper has one rate, 1.47, for all; here '
              'each E has its best', _large_e('shakespeare_lstm')),
    4: Figure('CIFAR-10: test accuracy against rounds',
              (Panel('CIFAR-10', tuple(
                  c for c in _CIFAR if c.algorithm != 'sgd')),)),
    5: Figure('Word LSTM: accuracy against rounds, on other data than the '
              "paper's. There, with 200 clients a round, FedSGD took 820 "
              'rounds to 10.5%, FedAvg 35',
              _panels('word_lstm', lambda cell: cell.E == 1)),
    6: Figure('Training loss: MNIST CNN and Shakespeare LSTM, C = 0.1',
              _panels('mnist_cnn', _in_tables, 'train_loss')
              + _panels('shakespeare_lstm', _in_tables, 'train_loss')),
    7: Figure(f'MNIST 2NN: {_CURVES}', _panels('mnist_2nn', _in_tables)),
    8: Figure('Many local epochs between two averages: MNIST CNN, B = 10, '
              'C = 0.1', _large_e('mnist_cnn')),
    9: Figure('CIFAR-10: test accuracy against minibatch updates of all '
              'clients together (B = 50; SGD: 100)',
              (Panel('CIFAR-10', (
                  BY_KEY['cifar_cnn/central/C1/E1/B100'],
                  BY_KEY['cifar_cnn/iid/C0.1/E5/B50']), updates=True),)),
    10: Figure("Word LSTM: FedSGD and FedAvg with E = 1 and 5, on other data "
               "than the paper's", _panels('word_lstm', lambda cell: True)),
}

"""Figures: who holds what (`partition_figure`) and how it went (`curves`).

`before_and_after` shows what personalization gives each client.

matplotlib is imported when something is drawn. Figures are made without
pyplot, so no global state and no display is touched, and files are replaced
atomically. The file's ending chooses the format: png, pdf, svg.
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_sim.core import files
from fedjax_sim.data import partition as partition_lib
from fedjax_sim.experiment import plot_axes

# More columns, or rows, than this can't be told apart.
_MAX_CLIENTS = 100
_MAX_LABELS = 40

_INK = '#22303c'
_GRAY = '#8a949e'
_BLUE = '#2f6fb0'
_PALETTE = (_BLUE, '#d1622b', '#3a9a5b', '#8b5fb5', '#c23b54', '#7a6a53',
            '#1d9aaa', '#b0902a')
_DOTTED = {'linewidth': 1.5, 'linestyle': (0, (1, 1.3))}


def partition_figure(
    partition: partition_lib.Partition,
    labels: Any,
    path: str | os.PathLike,
    title: str = '',
) -> None:
  """Draws a partition: clients by labels, and their sizes where they differ.

  A cell's shade tells how many examples with that label a client has, on a
  square-root scale; white is none. Of more than 100 clients, 100 evenly spaced
  ones are shown, of more than 40 labels the most frequent; a line above says
  so, next to the summary. The histogram of sizes is of all clients.

  Args:
    partition: N int arrays.
    labels: [E], or None to draw the sizes only.
    path: the file to write.
    title: above all, in bold.

  Raises:
    ValueError: not a partition of the labels' examples.
  """
  summary = partition_lib.summary(partition, labels)
  ragged = labels is None or summary.min_size < summary.max_size
  heights = [3.3] * (labels is not None) + [1.7] * ragged
  figure = _figure(9, sum(heights) + 0.9, title)
  axes = figure.subplots(
      len(heights), squeeze=False, height_ratios=heights)[:, 0]
  notes = str(summary)
  if labels is not None:
    notes += _draw_counts(axes[0], partition, labels)
  if ragged:
    _draw_sizes(axes[-1], partition_lib.sizes_of(partition))
  axes[0].set_title(notes, loc='left', fontsize=9, color=_INK)
  _save(figure, path)


def curves(
    records: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping]],
    path: str | os.PathLike,
    metric: str = 'test/accuracy',
    targets: Sequence[float] = (),
    title: str = '',
    best: bool = True,
    higher: bool = True,
    axis: str = 'round',
) -> None:
  """Draws a metric against rounds, the bytes that clients moved, or time.

  Of one run, an axis on top tells what its clients have sent. Records without
  the metric, or with None or a non-finite value, are left out. The range of an
  accuracy follows the later part of the curves: the steep first 5% of the
  points may lie below it.

  Args:
    records: those of a metrics file, or several files' by name.
    path: the file to write.
    metric: the field to draw.
    targets: thin lines across, each with its value.
    title: above the figure.
    best: also draw the best value so far, dotted: the curve that rounds to a
      target are read from.
    higher: whether larger values are better.
    axis: 'round'; 'bytes_up', 'bytes_down', 'bytes', those of all clients
      and rounds so far; or 'simulated_seconds'.

  Raises:
    ValueError: records that have no such metric, which lists those that they
      have, or nothing to draw it against.
  """
  several = isinstance(records, Mapping)
  runs = records if several else {'each evaluation': records}
  points = {name: _points(run, metric, axis) for name, run in runs.items()}
  if not any(len(x) for x, _ in points.values()):
    raise _nothing_to_draw(runs, metric, axis)
  figure = _figure(7.5, 4.4, title)
  axes = figure.subplots()
  _style(axes)
  for i, (name, (x, y)) in enumerate(points.items()):
    _draw_curve(axes, x, y, name, _PALETTE[i % len(_PALETTE)],
                (np.maximum if higher else np.minimum) if best else None)
  accuracy = 'accuracy' in metric
  _draw_targets(axes, targets, accuracy)
  if accuracy:
    axes.set_ylim(_accuracy_range([y for _, y in points.values()], targets))
    axes.yaxis.set_major_formatter(lambda y, _: _percent(y))
  plot_axes.style(axes, axis, [x[-1] for x, _ in points.values() if len(x)])
  axes.set_ylabel(metric)
  if not several and axis == 'round':
    top = plot_axes.bytes_on_top(axes, records)
    if top is not None:
      _style(top)
  axes.grid(axis='y', color=_GRAY, alpha=0.15)
  if best or several:
    _legend(axes, points, best)
  _save(figure, path)


def before_and_after(
    runs: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    path: str | os.PathLike,
    metric: str = 'accuracy',
    title: str = '',
) -> None:
  """Draws each client's metric after personalization against that before.

  A panel for each run, a point for each client: above the diagonal it has
  gained. Above it are the 10th, 50th and 90th percentile over the clients.
  Clients with a NaN, which have no data, are left out.

  Args:
    runs: name -> group of clients, such as 'seen' -> (before, after), each [N].
    path: the file to write.
    metric: what it is, in [0, 1].
    title: above the figure.
  """
  columns = min(len(runs), 4)
  rows = math.ceil(len(runs) / columns)
  figure = _figure(2.7 * columns + 0.4, 3.3 * rows + 0.5, title)
  panels = figure.subplots(rows, columns, squeeze=False, sharex=True,
                           sharey=True).ravel()
  for axes in panels[len(runs):]:
    axes.set_visible(False)
  for i, (name, groups) in enumerate(runs.items()):
    _draw_clients(panels[i], name, groups)
    _style(panels[i])
    if i + columns >= len(runs):  # Nothing is drawn below it.
      panels[i].tick_params(labelbottom=True)
      panels[i].set_xlabel(f'{metric} before')
  for axes in panels[::columns]:
    axes.set_ylabel(f'{metric} after')
  _save(figure, path)


def _draw_clients(
    axes: Any, title: str, groups: Mapping[str, tuple]
) -> None:
  """A panel of `before_and_after`."""
  axes.plot([0, 1], [0, 1], color=_GRAY, linewidth=0.8, zorder=1)
  for i, (name, (before, after)) in enumerate(groups.items()):
    real = np.isfinite(before) & np.isfinite(after)
    text = '\n'.join(
        f'{x:3.0f}% to {y:3.0f}%' for x, y in zip(*(
            100 * np.percentile(values[real], [10, 50, 90])
            for values in (np.asarray(before), np.asarray(after))),
            strict=True))
    axes.scatter(before[real], after[real], s=11, color=_PALETTE[i], alpha=0.6,
                 linewidth=0, label=f'{name}: p10, p50, p90\n{text}')
  axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
  axes.legend(
      title=title, loc='lower left', bbox_to_anchor=(-0.03, 1), ncols=2,
      alignment='left', frameon=False, fontsize=6.5, title_fontsize=9.5,
      labelcolor=_INK, handletextpad=0, columnspacing=1)


def _figure(width: float, height: float, title: str) -> Any:
  from matplotlib.figure import Figure  # Here, as it takes a second.
  figure = Figure(figsize=(width, height), layout='constrained', dpi=150,
                  facecolor='white')
  figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
  if title:
    figure.suptitle(title, x=0.012, ha='left', fontsize=12, color=_INK,
                    fontweight='bold')
  return figure


def _style(axes: Any) -> None:
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(_GRAY)
  axes.tick_params(color=_GRAY, labelcolor=_INK, labelsize=8.5)
  for axis in (axes.xaxis, axes.yaxis):
    axis.label.set(color=_INK, size=9.5)


def _save(figure: Any, path: str | os.PathLike) -> None:
  """Writes in the format of the file's ending."""
  with files.replacing(path) as file:
    figure.savefig(file, format=Path(path).suffix[1:] or 'png')


def _draw_counts(
    axes: Any, partition: partition_lib.Partition, labels: Any
) -> str:
  """The heat map; returns what to say if it doesn't show everything."""
  clients = _evenly_spaced(len(partition), _MAX_CLIENTS)
  counts, values = partition_lib.label_counts(
      [partition[i] for i in clients], labels)
  shown = _most_frequent(labels, values)
  counts, names = counts[:, shown].T, [_text(values[i]) for i in shown]
  mesh = axes.pcolormesh(
      np.ma.masked_equal(counts, 0), cmap=_shades(), norm=_scale(counts),
      edgecolors='white', linewidth=0.5 if len(clients) <= 50 else 0.25)
  bar = axes.figure.colorbar(mesh, ax=axes, pad=0.015, aspect=28)
  bar.set_label('examples', color=_INK, size=9.5)
  bar.outline.set_visible(False)
  bar.ax.tick_params(color=_GRAY, labelcolor=_INK, labelsize=8.5)
  _style(axes)
  _name_ticks(axes.set_xticks, [str(i) for i in clients], 20)
  _name_ticks(axes.set_yticks, names, 20)
  axes.invert_yaxis()
  axes.set_xlabel('client')
  axes.set_ylabel('label')
  notes = []
  if len(clients) < len(partition):
    notes.append(f'{len(clients)} of {len(partition):,} clients')
  if len(shown) < len(values):
    notes.append(f'the {len(shown)} most frequent of {len(values):,} labels')
  return f'\nShown: {", ".join(notes)}' if notes else ''


def _draw_sizes(axes: Any, sizes: np.ndarray) -> None:
  """Histogram of sizes; with logarithmic bins where they span 30 times."""
  low, high = int(sizes.min()), int(sizes.max())
  wide = low > 0 and high > 30 * low
  if wide:
    bins = np.geomspace(low, high + 1, 31)
    axes.set_xscale('log')
  else:
    # Bins a whole number wide, or some would hold more sizes than others.
    step = math.ceil((high - low + 1) / 30)
    bins = np.arange(low, high + step + 1, step) - 0.5
  axes.xaxis.set_major_formatter(lambda x, _: f'{x:,.6g}')
  axes.hist(sizes, bins=bins, color=_BLUE, edgecolor='white', linewidth=0.5)
  _style(axes)
  axes.yaxis.get_major_locator().set_params(integer=True)
  axes.set_xlabel('examples a client')
  axes.set_ylabel('clients')


def _shades() -> Any:
  """White to blue, but one example is already clearly not white."""
  import matplotlib
  from matplotlib.colors import ListedColormap
  shades = matplotlib.colormaps['Blues'](np.linspace(0.18, 1, 256))
  return ListedColormap(shades).with_extremes(bad='white')


def _scale(counts: np.ndarray) -> Any:
  """Square roots, or one large client would leave all others alike."""
  from matplotlib.colors import PowerNorm
  return PowerNorm(0.5, vmin=0, vmax=max(counts.max(), 1))


def _evenly_spaced(count: int, most: int) -> np.ndarray:
  """At most `most` of 0 .. count - 1, from the first to the last."""
  return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _most_frequent(labels: Any, values: np.ndarray) -> np.ndarray:
  """Positions in `values` of the labels to show, in the order of `values`."""
  _, totals = np.unique(np.asarray(labels), return_counts=True)
  return np.sort(np.argsort(-totals, kind='stable')[:_MAX_LABELS])


def _text(label: Any) -> str:
  text = label.decode() if isinstance(label, bytes) else str(label)
  return text if len(text) <= 14 else text[:13] + '…'


def _name_ticks(set_ticks: Any, names: Sequence[str], most: int) -> None:
  step = math.ceil(len(names) / most)
  step = next(s for s in (1, 2, 5, 10, step) if s >= step)
  places = np.arange(0, len(names), step)
  set_ticks(places + 0.5, [names[i] for i in places])


def _points(
    records: Sequence[Mapping[str, Any]], metric: str, axis: str
) -> tuple[np.ndarray, np.ndarray]:
  """Places and values [n] of the records that have finite ones."""
  values = np.array([record.get(metric) for record in records], float)
  places = plot_axes.places(records, axis)
  finite = np.isfinite(values) & np.isfinite(places)
  return places[finite], values[finite]


def _nothing_to_draw(
    runs: Mapping[str, Sequence[Mapping]], metric: str, axis: str
) -> ValueError:
  """Which of the two is not in the records."""
  fields = {field for run in runs.values() for record in run
            for field in record}
  if any(len(_points(run, metric, 'round')[0]) for run in runs.values()):
    return ValueError(
        "axis must be 'round' for records without "
        f'{" and ".join(plot_axes.PLOT_AXES[axis].fields)}, got {axis!r}.')
  return ValueError(
      f'metric must be one of {", ".join(sorted(fields - {"round"}))}, got '
      f'{metric!r}, which no record has a finite value of.')


def _draw_curve(
    axes: Any, x: np.ndarray, y: np.ndarray, name: str, color: str,
    best: np.ufunc | None,
) -> None:
  marker = 'o' if len(x) <= 30 else None
  # Thin where there are many points: late in a run they go up and down a lot.
  width = 1.6 if len(x) <= 100 else 1
  axes.plot(x, y, color=color, linewidth=width, marker=marker, markersize=3.5,
            label=name, zorder=2.5)
  if best and len(x):
    axes.plot(x, best.accumulate(y), color=color, zorder=3, **_DOTTED)


def _draw_targets(
    axes: Any, targets: Sequence[float], accuracy: bool
) -> None:
  for target in targets:
    axes.axhline(target, color=_GRAY, linewidth=0.8, zorder=1)
    axes.annotate(
        _percent(target) if accuracy else f'{target:g}', (1, target),
        xycoords=('axes fraction', 'data'), xytext=(4, 0), color=_GRAY,
        textcoords='offset points', va='center', size=8.5)


def _percent(value: float) -> str:
  return f'{100 * value:.6g}%'


def _accuracy_range(
    curves_: Sequence[np.ndarray], targets: Sequence[float]
) -> tuple[float, float]:
  """Limits that leave room for the late, flat part of the curves."""
  low = min([np.quantile(y, 0.05) for y in curves_ if len(y)] + [*targets])
  high = max([y.max() for y in curves_ if len(y)] + [*targets])
  pad = 0.05 * max(high - low, 0.01)
  # Nothing is above 1; a little room shows a line that runs along it.
  return max(low - pad, -pad / 5), min(high + pad, 1 + pad / 5)


def _legend(axes: Any, points: Mapping[str, Any], best: bool) -> None:
  from matplotlib.lines import Line2D
  handles = axes.get_legend_handles_labels()[0]
  if best:
    color = _PALETTE[0] if len(points) == 1 else _GRAY
    handles.append(Line2D([], [], color=color, label='best so far', **_DOTTED))
  axes.legend(handles=handles, loc='lower right', frameon=False, fontsize=9,
              labelcolor=_INK)

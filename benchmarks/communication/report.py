"""Puts tables into the pages, and draws the figures."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.communication import figures, tables
from benchmarks.communication.compressors import CIFAR10, MNIST
from benchmarks.communication.devices import DEVICES
from benchmarks.communication.tasks import Task
from fedjax_sim.core import files

DOCS = Path(__file__).parents[2] / 'docs'


class Place(NamedTuple):
  """Where a task's results stand.

  Attributes:
    task: the task.
    page: a file in docs; the block is `<!-- communication NAME -->`.
    table: makes the table.
    draw: makes the figure.
    bottom: the least accuracy of the figure.
  """

  task: Task
  page: str
  table: Callable[[Task, tables.Lines], str]
  draw: Callable[[Task, tables.Lines, Path, float], None]
  bottom: float

  @property
  def figure(self) -> str:
    return f'communication/{self.task.name}.png'


PLACES = (
    Place(MNIST, 'communication.md', tables.by_bytes, figures.by_bytes, 0.85),
    Place(CIFAR10, 'communication.md', tables.by_bytes, figures.by_bytes, 0.1),
    Place(DEVICES, 'systems.md', tables.by_time, figures.by_time, 0.7),
)


def block(place: Place, lines: tables.Lines) -> str:
  """The Markdown of a task: table, what is best, what is missing, origin."""
  task = place.task
  if not tables.finished(task, lines):
    return tables.missing(task, lines)
  words = [tables.missing(task, lines), tables.origin(task, lines)]
  if place.table is tables.by_bytes:
    words = [*_trade_offs(task, lines), *words]
  else:
    words.insert(0, tables.beside(
        task, lines, task.targets[-1], 'over-selected'))
  return '\n\n'.join([
      place.table(task, lines), ' '.join(filter(None, words)),
      f'![Best test accuracy so far]({place.figure})'])


def _trade_offs(task: Task, lines: tables.Lines) -> list[str]:
  """A sentence a target."""
  best = lambda target, axis: tables.best(task, lines, target, axis)
  return [
      f'Fewest bytes to {target:.0%}: up {best(target, "up")} fewer than '
      f'FedAvg; up and down {best(target, "both")}.'
      for target in reversed(task.targets) if best(target, 'up')]


def text(page: str, lines: tables.Lines, docs: Path = DOCS) -> str:
  """A page with the blocks of these results in it."""
  found = (docs / page).read_text()
  for place in PLACES:
    if place.page == page:
      name = f'communication {place.task.name}'
      found = re.sub(
          rf'(?<=<!-- {name} -->\n).*?(?=<!-- end {name} -->)',
          lambda _, place=place: f'{block(place, lines)}\n', found, flags=re.S)
  return found


def write(lines: tables.Lines, docs: Path = DOCS) -> None:
  """All pages and figures."""
  for page in dict.fromkeys(place.page for place in PLACES):
    made = text(page, lines, docs)
    with files.replacing(docs / page) as file:
      file.write(made.encode())
  for place in PLACES:
    if tables.finished(place.task, lines):
      place.draw(place.task, lines, docs / place.figure, place.bottom)

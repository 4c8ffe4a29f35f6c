"""What a run leaves in its folder beside its metrics.

All of it follows from the last checkpoint, the metrics and the data. So what is
missing, damaged or of another round is written again; `results.json`, written
last, says what should be there.
"""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fedjax_sim.core import files
from fedjax_sim.experiment import (
    headline,
    loop,
    metrics,
    plot_axes,
    plots,
    workdir,
)
from fedjax_sim.experiment.checkpoints import save_npz
from fedjax_sim.simulation.client_evaluation import ClientMetrics
from fedjax_sim.simulation.rounds import SimulationState

CLIENTS_FILE, PARTITION_FILE = 'clients.json', 'partition.png'


def write(
    folder: Path, state: SimulationState, targets: Sequence[float],
    higher_is_better: Mapping[str, bool],
) -> None:
  """The final parameters, and the curve where there is one, also by time.

  Args:
    folder: with the metrics.
    state: after the last round.
    targets: test accuracies that the curve marks.
    higher_is_better: of the model's metrics; the curve is that of `headline`.
  """
  save_npz(folder / 'final_params.npz', state.server.variables._asdict())
  records = metrics.read(folder / loop.METRICS_FILE)
  told = headline.of(records, higher_is_better)
  if told is not None:
    marked = targets if told.name == 'test/accuracy' else ()
    name = told.name.removeprefix('test/')
    draw = functools.partial(
        plots.curves, records, metric=told.name, targets=marked,
        title=folder.name, higher=told.higher)
    draw(folder / f'{name}.png')
    if np.isfinite(plot_axes.places(records, 'simulated_seconds')).any():
      draw(folder / f'{name}_by_time.png', axis='simulated_seconds')


def write_clients(folder: Path, found: ClientMetrics) -> None:
  """A summary of the clients' own metrics; null where one is not finite."""
  workdir.write_json(folder / CLIENTS_FILE, {
      name: value if np.isfinite(value) else None
      for name, value in found.summary().items()})


def set_aside(folder: Path, names: Sequence[str]) -> list[str]:
  """Renames files that are damaged, before a run goes on with them.

  Args:
    folder: of a run.
    names: of files that can't be written again from a checkpoint.

  Returns:
    What is wrong with those that are not as they were noted.
  """
  noted = {}
  with contextlib.suppress(ValueError):  # It is damaged itself.
    noted = (workdir.read_json(folder / workdir.RESULTS_FILE) or {}).get(
        'files', {})
  wrong = []
  for file in (folder / name for name in names if name in noted):
    why = _why_not(file, noted[file.name])
    if why is not None:
      wrong.append(why)
      if file.exists():
        files.set_aside(file)
  return wrong


def begin(folder: Path) -> None:
  """Before a run goes on: what was noted of its results holds no longer.

  A figure that is drawn once is drawn again unless it is as it was noted.
  """
  file, figure = folder / workdir.RESULTS_FILE, folder / PARTITION_FILE
  with contextlib.suppress(ValueError):  # It is damaged itself.
    noted = workdir.read_json(file) or {'files': {}}
    if figure.exists() and files.sha256(figure) != noted['files'].get(
        figure.name):
      figure.unlink()
  file.unlink(missing_ok=True)


def complete(
    folder: Path, round_number: int, targets: Sequence[float] = (),
    higher_is_better: Mapping[str, bool] | None = None,
) -> None:
  """Notes that all results of a round are there.

  Args:
    folder: holds them.
    round_number: of the state that they are of.
    targets: that the curve marks.
    higher_is_better: as in `write`, for those who read the metrics later.
  """
  workdir.write_json(folder / workdir.RESULTS_FILE, {
      'round': round_number, 'targets': list(targets),
      # Pairs: what comes first is told first, and JSON's keys are sorted.
      'higher_is_better': list((higher_is_better or {}).items()),
      'records': _records(folder),
      'files': {file.name: files.sha256(file) for file in _files(folder)}})


def directions(folder: Path) -> dict[str, bool]:
  """Name of a metric -> whether higher is better, as `complete` noted it."""
  with contextlib.suppress(ValueError):  # It is damaged.
    noted = workdir.read_json(folder / workdir.RESULTS_FILE) or {}
    return dict(noted.get('higher_is_better', ()))
  return {}


def check_rounds(
    folder: Path, done: int, rounds: int, name: str = 'config.rounds'
) -> None:
  """ValueError if a folder holds a longer run than the one asked for."""
  if done > rounds:
    raise ValueError(
        f'{name} must be at least {done}, the rounds that {str(folder)!r} has '
        f'done, got {rounds}. For a shorter run name another folder.')


def why_not(
    folder: Path, round_number: int, targets: Sequence[float] | None = None
) -> str | None:
  """Why the results must be written again; None if they are as they should be.

  Args:
    folder: of a run.
    round_number: of its last checkpoint.
    targets: that the curve is to mark, None if that doesn't matter.
  """
  try:
    noted = workdir.read_json(folder / workdir.RESULTS_FILE)
  except ValueError as error:
    return str(error)
  if noted is None:
    return f'{folder} lacks results.'
  if noted['round'] != round_number:
    return f'the results in {folder} are those of round {noted["round"]}.'
  if targets is not None and noted['targets'] != list(targets):
    return f'the curve in {folder} marks other targets.'
  for name, digest in noted['files'].items():
    why = _why_not(folder / name, digest)
    if why is not None:
      return why
  if noted['records'] != _records(folder):
    return f'{folder / loop.METRICS_FILE} has lost records.'
  return None


def _why_not(file: Path, digest: str) -> str | None:
  """What is wrong with a file, None if it is as it was noted."""
  if not file.is_file():
    return f'{file} is missing.'
  if files.sha256(file) != digest:
    return f'{file} is damaged: its sha256 is not that of what was written.'
  return None


def _files(folder: Path) -> list[Path]:
  """What is not looked after by whoever goes on with it."""
  others = ('config.json', loop.METRICS_FILE, workdir.RESULTS_FILE)
  return [file for file in sorted(folder.iterdir())
          if file.is_file() and file.name not in others
          and not file.name.startswith('.') and '.damaged' not in file.name]


def _records(folder: Path) -> int:
  """Lines of the metrics file."""
  file = folder / loop.METRICS_FILE
  return file.read_bytes().count(b'\n') if file.exists() else 0

"""The runs of a sweep that share a program; one alone is a run."""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fedjax_sim.core import random
from fedjax_sim.experiment import (
  build_sweep,
  loop,
  metrics,
  reporting,
  results,
  sweep_settings,
)
from fedjax_sim.experiment import run as run_lib
from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.simulation import evaluation
from fedjax_sim.simulation.drive import Progress
from fedjax_sim.simulation.sweep import SweepState
from fedjax_sim.simulation.sweep_runs import SweepRuns


def run(
    folder: Path, name: str, config: ConfigDict,
    settings: Sequence[Mapping[str, Any]], labels: Sequence[str], devices: int,
) -> bool:
  """Runs a config with several settings, from where an earlier call left it.

  Args:
    folder: of the sweep.
    name: of the group, the same whenever the sweep goes on.
    config: like configs/default.py.
    settings: of each run, as `build_sweep.build_sweep` takes them.
    labels: of each run, the name of its folder.
    devices: most devices.

  Returns:
    False if a signal stopped them.
  """
  ended = folder / 'checkpoints' / f'{name}.done'
  if ended.exists():
    return True
  folders = [folder_of(folder, label) for label in labels]
  if len(settings) == 1:
    one = sweep_settings.with_fields(config, settings[0])
    code = run_lib.run(one, labels[0], workdir_path=folders[0])
    finished = code != run_lib.EXIT_STOPPED
  else:
    finished = _run_together(
        folder / 'checkpoints' / name, config, settings, folders, devices)
    if not finished:
      print('stopped; the same command goes on from here')
  if finished:
    ended.parent.mkdir(exist_ok=True, parents=True)
    ended.touch()
  return finished


def folder_of(folder: Path, label: str) -> Path:
  """A run's folder in that of the sweep, named by what the run differs in.

  A label that can't be a name, of a path or a long spec, is told from others
  by a checksum: 'data_dir=a/b' and 'data_dir=a_b' are two runs.
  """
  name = label.replace('/', '_')
  if name != label or len(name.encode()) > 200:  # File systems take 255.
    digest = hashlib.sha256(label.encode()).hexdigest()[:12]
    name = f'{name[:100]}-{digest}'
  return folder / name


def _run_together(
    checkpoints: Path, config: ConfigDict, settings, folders: Sequence[Path],
    devices: int,
) -> bool:
  """`run`, with several settings."""
  sweep, members = build_sweep.build_sweep(
      config, settings, devices=min(devices, len(settings)),
      lanes=config.lanes)
  runs = SweepRuns(sweep=sweep, members=members)
  files = {i: path / loop.METRICS_FILE for i, path in enumerate(folders)}
  with contextlib.ExitStack() as stack:
    saved = stack.enter_context(
        Checkpoints(checkpoints, config.keep_checkpoints))
    state = loop.restore(runs, sweep.init(members), saved, files)
    if saved.latest():
      print(f'resumed after round {max(runs.done(state).values())}')
    active = _going_on(runs.done(state), files)
    writers = []
    for path in folders:
      path.mkdir(exist_ok=True)
      writers.append(stack.enter_context(
          reporting.event_writer(path, config.tensorboard)))
    signals = stack.enter_context(loop.stop_requests())

    def show(progress: Progress) -> None:
      for i, records in progress.records.items():
        writers[i](records)
      _tell(progress, folders, config.rounds)

    outcome = loop.train(
        runs, state, run_lib.cadence(config), files=files, checkpoints=saved,
        traffic=runs.bytes_per_client(), active=active,
        stop=lambda: bool(signals), on_progress=show)
  if not outcome.interrupted:
    _write_results(config, settings, runs, outcome.state, folders)
  return not outcome.interrupted


def _going_on(done: Mapping[int, int], files: Mapping[int, Path]) -> set[int]:
  """All but those that have diverged, whose metrics end before their state."""
  active = set()
  for i, file in files.items():
    recorded = len(metrics.read(file)) if file.exists() else 0
    if recorded == done[i]:
      active.add(i)
    else:
      print(f'{file.parent.name}: diverged in round {recorded + 1}')
  return active


def _tell(progress: Progress, folders: Sequence[Path], stop: int) -> None:
  """A line for each dispatch that evaluated, and for each run that diverged."""
  for i, error in progress.diverged.items():
    print(f'{folders[i].name}: diverged in round {error.round}')
  best = [(records[-1]['test/accuracy'], i)
          for i, records in progress.records.items()
          if records and 'test/accuracy' in records[-1]]
  if best:
    accuracy, i = max(best)
    number = progress.records[i][-1]['round']
    print(f'round {number}/{stop}  {len(progress.records)} runs, now best: '
          f'test accuracy {accuracy:.4f} ({folders[i].name})', flush=True)


def _write_results(
    config: ConfigDict, settings, runs: SweepRuns, state: SweepState,
    folders: Sequence[Path],
) -> None:
  """What a run of its own leaves, for each that has not diverged."""
  tests, sweep = build_sweep.client_tests(config, settings), runs.sweep
  for i, member in enumerate(runs.members):
    file = folders[i] / loop.METRICS_FILE
    if not file.exists() or len(metrics.read(file)) < config.rounds:
      continue  # It has diverged.
    last = runs.state_of(state, i)
    results.write(folders[i], last, config.targets)
    if tests:
      results.write_clients(folders[i], evaluation.evaluate_clients(
          sweep.model, sweep.make_algorithm(**member.hyperparameters), last,
          sweep.federations[member.federation], tests[member.federation],
          key=random.root_key(member.seed)))

"""The runs of a sweep that share a program; one alone is a run."""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fedjax_sim.experiment import (
    build_sweep,
    callbacks,
    headline,
    loop,
    metrics,
    privacy_told,
    results,
    session,
    sweep_best,
    sweep_clients,
    sweep_settings,
    workdir,
)
from fedjax_sim.experiment import run as run_lib
from fedjax_sim.experiment.checkpoints import Checkpoints
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
  ended = folder / 'checkpoints' / f'group{name}.json'
  folders = [folder_of(folder, label) for label in labels]
  if _is_complete(ended, folders, config):
    return True
  if len(settings) == 1:
    one = sweep_settings.with_fields(config, settings[0])
    code = run_lib.run(one, labels[0], workdir_path=folders[0])
    finished = code != run_lib.EXIT_STOPPED
  else:
    finished = _run_together(
        folder / 'checkpoints' / f'group{name}', config, settings, folders,
        devices)
    if not finished:
      print('stopped; the same command goes on from here')
  if finished:
    ended.parent.mkdir(exist_ok=True, parents=True)
    # Those without results have diverged.
    workdir.write_json(ended, {'rounds': config.rounds, 'finished': [
        path.name for path in folders
        if results.why_not(path, config.rounds) is None]})
  return finished


def _is_complete(
    ended: Path, folders: Sequence[Path], config: ConfigDict) -> bool:
  """Whether runs have ended, and their results are as they were written."""
  try:
    noted = workdir.read_json(ended)
  except ValueError as error:
    print(error)
    noted = None
  if noted is None or noted['rounds'] < config.rounds:
    return False
  results.check_rounds(ended.parent.parent, noted['rounds'], config.rounds)
  for path in folders:
    why = results.why_not(path, noted['rounds'], config.targets)
    if path.name in noted['finished'] and why is not None:
      print(f'{why} So the results are written again.', flush=True)
      return False
  return True


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
      lanes=config.lanes, say=print)
  runs = SweepRuns(sweep=sweep, members=members)
  files = {i: path / loop.METRICS_FILE for i, path in enumerate(folders)}
  cadence = run_lib.cadence(config)
  clients = sweep_clients.of(config, settings, runs, folders)
  followers = sweep_best.of(config, runs, folders, cadence.evaluate), clients
  with contextlib.ExitStack() as stack:
    saved = stack.enter_context(
        Checkpoints(checkpoints, config.keep_checkpoints))
    state = loop.restore(runs, sweep.init(members), saved, files)
    results.check_rounds(checkpoints.parent.parent,
                         max(runs.done(state).values()), config.rounds)
    for path in folders:
      session.begin_again(path)
    for one in followers:
      one.restore(state)
    if saved.latest():
      print(f'resumed after round {max(runs.done(state).values())}')
    lost = loop.diverged(runs, state, saved)
    for i, last in lost.items():
      print(f'{folders[i].name}: diverged in round {last + 1}')
    active = set(files) - lost.keys()
    writers = []
    for path in folders:
      path.mkdir(exist_ok=True)
      if config.tensorboard:
        writers.append(stack.enter_context(contextlib.closing(
            callbacks.tensorboard(path / 'tensorboard'))))
    signals = stack.enter_context(loop.stop_requests())
    initial = loop.evaluate_initial(runs, state, files)
    for one in followers:
      one.see(state, initial)
    for i, record in initial.items():
      for writer in writers[i:i + 1]:
        writer.log([record])

    def show(progress: Progress) -> None:
      for i, records in progress.records.items():
        for writer in writers[i:i + 1]:
          writer.log(records)
      good = progress.records.keys()
      if cadence.stop_on_divergence:
        good -= progress.diverged.keys()
      for one in followers:
        one.see(progress.state, {i: progress.records[i][-1] for i in good})
      _tell(progress, folders, config.rounds,
            runs.sweep.model.higher_is_better)

    outcome = loop.train(
        runs, state, cadence._replace(
            pause=lambda r: any(one.pause(r) for one in followers)),
        files=files, checkpoints=saved, traffic=runs.bytes_per_client(),
        active=active, stop=lambda: bool(signals), on_progress=show,
        notes=lambda i, record: {'cohort': runs.cohort(
            i, record['round'] - 1)} if config.record_cohort else {})
  if not outcome.interrupted:
    _write_results(config, runs, outcome.state, folders, clients)
  return not outcome.interrupted


def _tell(
    progress: Progress, folders: Sequence[Path], stop: int,
    higher_is_better: Mapping[str, bool],
) -> None:
  """A line for each dispatch that evaluated, and for each run that diverged."""
  for i, error in progress.diverged.items():
    print(f'{folders[i].name}: diverged in round {error.round}')
  last = {i: records[-1] for i, records in progress.records.items() if records}
  told = headline.of(last.values(), higher_is_better)
  if told is not None:
    values = {i: record[told.name] for i, record in last.items()
              if record.get(told.name) is not None}
    i = list(values)[told.best(list(values.values()))]
    print(f'round {last[i]["round"]}/{stop}  {len(progress.records)} runs, now '
          f'best: {told.title} {values[i]:.4f} ({folders[i].name})', flush=True)


def _write_results(
    config: ConfigDict, runs: SweepRuns, state: SweepState,
    folders: Sequence[Path], clients: sweep_clients.ClientsOfEach,
) -> None:
  """What a run of its own leaves, for each that has not diverged."""
  sweep, stated = runs.sweep, runs.sweep.model.higher_is_better
  for i, member in enumerate(runs.members):
    file = folders[i] / loop.METRICS_FILE
    if metrics.last_round(file) < config.rounds:
      continue  # It has diverged.
    results.write(
        folders[i], runs.state_of(state, i), config.targets, stated)
    privacy_told.write(folders[i], privacy_told.Told(
        sweep.make_algorithm(**member.hyperparameters),
        sweep.make_sampler(member.seed), bool(config.systems), config.rounds))
    if clients.tests:
      results.write_clients(folders[i], clients.after(state, i))
    results.complete(folders[i], config.rounds, config.targets, stated)

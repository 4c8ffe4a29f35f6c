"""A sweep of a config: `run.py --sweep=client_lr=0.1,0.3 --sweep=seed=0,1`.

Runs that share a program (see `sweep_settings`) are the members of one sweep;
others make one sweep after the other. The folder holds each run's metrics, one
table and one plot; a sweep that was stopped or killed goes on from its last
checkpoint.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from ml_collections import ConfigDict

from fedjax_sim.core import compilation
from fedjax_sim.core.cpu_devices import use_all_cores
from fedjax_sim.experiment import (
  build_sweep,
  loop,
  metrics,
  plots,
  reporting,
  spec_fields,
  sweep_settings,
  workdir,
)
from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.simulation import evaluation
from fedjax_sim.simulation import sweep as sweep_lib
from fedjax_sim.simulation.plan import evaluate_after


def run(
    config: ConfigDict, name: str, fields: Mapping[str, Sequence[Any]],
    workdir_path: str | None = None,
) -> int:
  """Runs every combination of the fields' values.

  Args:
    config: like configs/default.py.
    name: of the config, for the default workdir runs/<name>-sweep-<hash>.
    fields: field -> values.
    workdir_path: another workdir.

  Returns:
    The exit code: 0 done, 130 stopped by a signal.

  Raises:
    ValueError: bad input, before any work.
  """
  groups = sweep_settings.groups(config, fields)
  build_sweep.check(groups)
  compilation.keep_programs()
  # In a process where JAX runs already, what it runs on is what there is.
  with contextlib.suppress(ValueError):
    use_all_cores()
  plain = workdir.as_json(
      spec_fields.canonical(config) | {'sweep': dict(fields)})
  folder = Path(workdir_path or Path('runs') / (
      f'{name}-sweep-{workdir.short_hash(plain)}'))
  workdir.prepare(folder)
  with loop.exclusive(folder):
    record = workdir.read_record(folder)
    if record is not None:
      workdir.check_same(folder, record, plain)
    # Where members lie depends on it, so a sweep goes on with as many.
    devices = record['resolved']['devices'] if record else len(jax.devices())
    workdir.write_record(folder, plain, {'devices': devices}, record)
    for i, (one, settings) in enumerate(groups):
      if not _run_group(folder, f'{i}', one, settings, fields, devices):
        print('stopped; the same command goes on from here')
        return 130
    _report(folder, config, groups, fields)
  return 0


def _run_group(folder, name, config, settings, fields, devices) -> bool:
  """One program's runs; False if a signal stopped them."""
  files = [folder / f'{sweep_settings.label(fields, config, s)}.jsonl'
           for s in settings]
  with Checkpoints(folder / 'checkpoints' / name, keep=2) as saved:
    ended = folder / 'checkpoints' / f'{name}.done'
    if ended.exists():
      return True
    sweep, members = build_sweep.build_sweep(
        config, settings, devices=min(devices, len(settings)))
    state = _restore(saved, sweep.init(members), files)
    active = _running(state, files)
    saved_at = time.monotonic()
    with loop.stop_requests() as signals:
      for progress in sweep.dispatches(
          members, state, config.rounds, active,
          evaluate=evaluate_after(config.eval_every, config.rounds)):
        state = progress.state
        for i, rows in progress.rows.items():
          metrics.append(files[i], rows)
        for i, number in progress.diverged.items():
          print(f'{files[i].stem}: diverged in round {number}')
        _tell(progress, files, config.rounds)
        if signals or time.monotonic() - saved_at > config.checkpoint_seconds:
          _save(saved, state)
          saved_at = time.monotonic()
        if signals:
          return False
    _evaluate_clients(config, settings, sweep, members, state, files)
  ended.parent.mkdir(exist_ok=True, parents=True)
  ended.touch()
  return True


def _evaluate_clients(config, settings, sweep, members, state, files) -> None:
  """What each client is given, on its own held-out examples, run by run."""
  tests = build_sweep.client_tests(config, settings)
  for i, member in enumerate(members):
    finished = (len(metrics.read(files[i])) == config.rounds
                if files[i].exists() else False)
    if not tests or not finished:  # Or it has diverged.
      continue
    summary = evaluation.evaluate_clients(
        sweep.model, sweep.make_algorithm(**member.hyperparameters),
        state.of(i), sweep.federations[member.federation],
        tests[member.federation], key=jax.random.key(member.seed)).summary()
    workdir.write_json(_clients_file(files[i]), {
        k: v if np.isfinite(v) else None for k, v in summary.items()})


def _clients_file(file: Path) -> Path:
  return file.with_name(f'{file.stem}.clients.json')


def _save(saved: Checkpoints, state: sweep_lib.SweepState) -> None:
  saved.save((saved.latest() or 0) + 1, _arrays(state))


def _arrays(state: sweep_lib.SweepState) -> dict[str, Any]:
  return {'states': state.states, 'members': jnp.asarray(state.members),
          'done': jnp.asarray(state.done)}


def _restore(
    saved: Checkpoints, initial: sweep_lib.SweepState, files: Sequence[Path]
) -> sweep_lib.SweepState:
  """The last checkpoint's; metrics of later rounds are dropped."""
  latest, state = saved.latest(), initial
  if latest is not None:
    kept = saved.restore(latest, _arrays(initial))
    state = sweep_lib.SweepState(
        kept['states'], np.array(kept['members']), np.array(kept['done']))
    print(f'resumed after round {state.done.max()}')
  for i, file in enumerate(files):
    (row,) = np.flatnonzero(state.members == i)
    if file.exists():
      metrics.truncate_after(file, int(state.done[row]))
  return state


def _running(state: sweep_lib.SweepState, files: Sequence[Path]) -> set[int]:
  """All but those that have diverged, whose metrics end before their state."""
  running = set()
  for i, file in enumerate(files):
    rows = len(metrics.read(file)) if file.exists() else 0
    if rows == state.done[state.members == i]:
      running.add(i)
    else:
      print(f'{file.stem}: diverged in round {rows + 1}')
  return running


def _tell(progress: sweep_lib.Progress, files, stop: int) -> None:
  """A line for each dispatch that evaluated."""
  best = [(rows[-1]['test/accuracy'], i) for i, rows in progress.rows.items()
          if rows and 'test/accuracy' in rows[-1]]
  if best:
    accuracy, i = max(best)
    rounds = progress.rows[i][-1]['round']
    print(f'round {rounds}/{stop}  {len(progress.rows)} runs, now best: '
          f'test accuracy {accuracy:.4f} ({files[i].stem})', flush=True)


def _report(folder, config, groups, fields) -> None:
  """One table, one plot."""
  runs = {}
  held_out = any(one.client_test_fraction for one, _ in groups)
  lines = [('run', 'rounds', 'best', 'final',
            *(f'to {t:.1%}' for t in config.targets),
            *(("clients' own", 'worst tenth') if held_out else ()))]
  for one, settings in groups:
    for setting in settings:
      label = sweep_settings.label(fields, one, setting)
      file = folder / f'{label}.jsonl'
      runs[label] = metrics.read(file) if file.exists() else []
      lines.append((label, *_outcome(runs[label], config),
                    *(_own(file) if held_out else ())))
  text = reporting.table(lines)
  print(text)
  (folder / 'sweep.txt').write_text(text + '\n')
  drawn = {}
  for one, settings in groups:
    for setting in settings:
      label = sweep_settings.label(
          [n for n in fields if n != 'seed'], one, setting)
      drawn.setdefault(label or config.model, []).append(
          runs[sweep_settings.label(fields, one, setting)])
  drawn = {label: _median(own) for label, own in drawn.items()}
  drawn = {label: rows for label, rows in drawn.items() if rows}
  if drawn:
    title = folder.name + (', median over seeds' if 'seed' in fields else '')
    plots.curves(drawn, folder / 'sweep.png', targets=config.targets,
                 title=title, best=False)


def _own(file: Path) -> tuple[str, str]:
  """Mean and 10th percentile of the clients' own accuracies."""
  own = workdir.read_json(_clients_file(file)) or {}
  return tuple(f'{own[name]:.4f}' if own.get(name) is not None else '-'
               for name in ('accuracy/mean', 'accuracy/p10'))


def _median(runs: Sequence[list[dict]]) -> list[dict]:
  """Test accuracy over seeds, in the rounds that all of them evaluated."""
  tested = [{row['round']: row['test/accuracy'] for row in rows
             if row.get('test/accuracy') is not None} for rows in runs]
  shared = set(tested[0]).intersection(*tested[1:])
  median = lambda r: float(np.median([t[r] for t in tested]))
  return [{'round': r, 'test/accuracy': median(r)} for r in sorted(shared)]


def _outcome(rows, config) -> list[str]:
  """Rounds done, best and final accuracy, rounds to each target."""
  tested = [row for row in rows if row.get('test/accuracy') is not None]
  if not tested:
    return ['diverged', '-', '-', *('-' for _ in config.targets)]
  accuracy = [row['test/accuracy'] for row in tested]
  crossed = [metrics.rounds_to_target(
      [row['round'] for row in tested], accuracy, target)
      for target in config.targets]
  rounds = f'{rows[-1]["round"]}'
  if rows[-1]['round'] < config.rounds:
    rounds = f'diverged after {rounds}'
  return [rounds, f'{max(accuracy):.4f}', f'{accuracy[-1]:.4f}',
          *('not reached' if c is None else f'{c:.1f}' for c in crossed)]

"""Accuracy against bytes, and against simulated time.

  python -m benchmarks.communication run mnist      compressors, 2NN
  python -m benchmarks.communication run cifar10    some of them, CNN
  python -m benchmarks.communication run devices    rules of rounds, in time
  python -m benchmarks.communication report         tables and plots

`run` goes on where it was: benchmarks/results/communication.jsonl gets a line
when a search of rates is done, and one when the seeds at the chosen rate are.
docs/communication.md says how rates are searched. `--only` takes entries by
name; `--minutes` begins nothing after so many.
"""

import argparse
import math
import time

import fedjax_sim
from benchmarks.communication import compressors, devices, runs, store
from benchmarks.communication import curves as curves_lib
from benchmarks.communication.tasks import Entry, Task
from fedjax_sim.core import compilation

TASKS = {task.name: task for task in (
    compressors.MNIST, compressors.CIFAR10, devices.DEVICES)}


def search(task: Task, entry: Entry) -> None:
  """Finds an entry's rates, with seed 0 of the tuning set."""
  cut, last = (entry.steps * rounds for rounds in task.tuning_rounds)
  found, seconds = runs.run(
      {**task.fields, **entry.fields, **task.tuning},
      [{'seed': 0, **setting} for setting in entry.settings],
      rounds=last, every=entry.steps * task.every,
      judge=runs.halving(cut), pause=cut)
  best = list(map(curves_lib.best, found))
  store.append({
      'task': task.name, 'entry': entry.name, 'phase': 'search',
      'fields': dict(entry.fields), 'settings': list(entry.settings),
      'rounds': [(one['round'] or [0])[-1] for one in found], 'best': best,
      'chosen': entry.settings[best.index(max(best))], 'seconds': seconds})


def with_seeds(task: Task, entry: Entry, setting: dict) -> None:
  """An entry's curves at its rate."""
  found, seconds = runs.run(
      {**task.fields, **entry.fields},
      [{'seed': seed, **setting} for seed in task.seeds],
      rounds=entry.steps * task.rounds, every=entry.steps * task.every,
      judge=runs.until(task.targets[-1]))
  store.append({
      'task': task.name, 'entry': entry.name, 'phase': 'seeds',
      'fields': dict(entry.fields), 'setting': setting,
      'seeds': list(task.seeds), 'curves': found, 'seconds': seconds})
  print(f'{entry.name}: {setting}, best {list(map(curves_lib.best, found))}, '
        f'rounds {[(one["round"] or [0])[-1] for one in found]}, '
        f'{seconds:.0f} s', flush=True)


def run(task: Task, only: list[str], minutes: float) -> None:
  """What the result file lacks."""
  fedjax_sim.use_all_cores()
  compilation.keep_programs()
  end = time.monotonic() + 60 * minutes
  for entry in task.entries:
    if only and entry.name not in only:
      continue
    if task.tuning is not None and (
        task.name, entry.name, 'search') not in store.read():
      if time.monotonic() > end:
        return
      search(task, entry)
    known = store.read()
    setting = entry.settings[0] if task.tuning is None else known[
        task.name, entry.name, 'search']['chosen']
    done = known.get((task.name, entry.name, 'seeds'), {})
    if done.get('setting') != setting:
      if time.monotonic() > end:
        return
      with_seeds(task, entry, setting)


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  commands = parser.add_subparsers(dest='command', required=True)
  runner = commands.add_parser('run')
  runner.add_argument('task', choices=TASKS)
  runner.add_argument('--only', nargs='+', default=[], help='entries')
  runner.add_argument('--minutes', type=float, default=math.inf)
  commands.add_parser('report')
  options = parser.parse_args()
  if options.command == 'report':
    from benchmarks.communication import report  # Here: it draws.
    report.write(store.read())
    return
  run(TASKS[options.task], options.only, options.minutes)


if __name__ == '__main__':
  main()

"""Accuracy against bytes, and against simulated time.

  python -m benchmarks.communication run mnist      compressors, 2NN
  python -m benchmarks.communication report         tables and plots

`run` goes on where it was: a line goes to benchmarks/results/communication.jsonl
when a search of rates, or the seeds at the chosen rate, are done. The protocol
stands in docs/communication.md. `--only` takes entries by name, `--minutes`
begins nothing after so many.
"""

import argparse
import math
import time

import fedjax_sim
from benchmarks.communication import compressors, runs, store
from benchmarks.communication import curves as curves_lib
from benchmarks.communication.tasks import Entry, Task
from fedjax_sim.core import compilation

TASKS = {task.name: task for task in (compressors.MNIST,)}


def search(task: Task, entry: Entry) -> None:
  """Finds an entry's rates, with seed 0 of the tuning set."""
  cut, last = task.tuning_rounds
  found, seconds = runs.run(
      {**task.fields, **entry.fields, **task.tuning},
      [{'seed': 0, **setting} for setting in entry.settings],
      rounds=last, every=task.every, judge=runs.halving(cut), pause=cut)
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
      rounds=task.rounds, every=task.every,
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
    key = task.name, entry.name
    if task.tuning is not None and (*key, 'search') not in store.read():
      if time.monotonic() > end:
        return
      search(task, entry)
    if (*key, 'seeds') not in store.read():
      if time.monotonic() > end:
        return
      setting = entry.settings[0] if task.tuning is None else store.read()[
          (*key, 'search')]['chosen']
      with_seeds(task, entry, setting)


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  commands = parser.add_subparsers(dest='command', required=True)
  runner = commands.add_parser('run')
  runner.add_argument('task', choices=TASKS)
  runner.add_argument('--only', nargs='+', default=[], help='entries')
  runner.add_argument('--minutes', type=float, default=math.inf)
  options = parser.parse_args()
  run(TASKS[options.task], options.only, options.minutes)


if __name__ == '__main__':
  main()

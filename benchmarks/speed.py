"""How fast a round of FedAvg is, ours beside what one would take instead.

  python -m benchmarks.speed --setup [ENVIRONMENT ...]   make environments
  python -m benchmarks.speed                             measure everything
  python -m benchmarks.speed --report                    table into README.md
  python -m benchmarks.speed --contenders ours --before CHECKOUT --out FILE
                                       ours, in turns with another revision's

Everybody trains the same model on the same examples with the same cohorts, by
the same number of steps (`tasks.py`); what is timed for each is in the
docstrings of `peers/`. A round is the local training of the cohort and the
weighted average; evaluation, compilation and loading are not timed.

Every contender is a process in an environment of its own. First each runs some
rounds as warm-up, after which its model must be about as good as ours on the
test set, or its times count as invalid. Then they take turns, A B C ... A B C
..., only one computing at a time, so that a slow minute of the machine is
everybody's. (Flower's daemons work all the time: it takes turns with ours
alone.) A ratio is the median, over the turns, of a contender's time
divided by ours in the same turn.

A JSON line for each task goes to benchmarks/results/speed.jsonl.
"""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import contenders as contenders_lib
from benchmarks import tasks as tasks_lib
from benchmarks.contenders import CONTENDERS, ROOT, Contender, Worker
from benchmarks.tasks import TASKS, Task

PROCESSES = Path(__file__).parent / 'results' / 'processes.jsonl'
RESULTS = Path(__file__).parent / 'results' / 'speed.jsonl'

_REFERENCE = 'ours'


def warm_up(worker: Worker, task: Task) -> dict[str, Any]:
  """Runs the rounds before the check, and finds the number of threads.

  Returns:
    Accuracy, loss, and where it applies the number of threads.
  """
  tried = {}
  for i in range(task.check_rounds):
    setting = {}
    if worker.contender.threads:
      setting['threads'] = 1 if i % 2 else tasks_lib.cores()
    seconds = worker.ask('rounds', count=1, **setting)['seconds']
    if i or task.check_rounds < 3:  # The first is slow.
      tried.setdefault(setting.get('threads'), []).append(seconds)
  best = min(tried, key=lambda threads: min(tried[threads]))
  threads = {} if best is None else {'threads': best}
  return worker.ask('evaluate') | threads


def measure_all(
    task: Task, contenders: list[Contender], repeats: int
) -> dict[str, dict[str, Any]]:
  """`measure`, those with daemons beside ours alone."""
  results = measure(task, [c for c in contenders if not c.daemons], repeats)
  ours = [c for c in contenders if c.name == _REFERENCE]
  for contender in contenders:
    if contender.daemons:
      pair = measure(task, [*ours, contender], repeats)
      if contender.name in pair:
        results[contender.name] = pair[contender.name] | {
            'beside': pair.get(_REFERENCE)}
  return results


def measure(
    task: Task, contenders: list[Contender], repeats: int
) -> dict[str, dict[str, Any]]:
  """Measures contenders on a task; `summary` says what it returns."""
  with tempfile.TemporaryDirectory() as folder:
    arrays = Path(folder) / 'arrays.npz'
    tasks_lib.write_arrays(task, arrays)
    with contenders_lib.started(contenders, task, arrays) as workers:
      results = {}
      for worker, info in workers:
        name = worker.contender.name
        begun = time.perf_counter()
        results[name] = info | warm_up(worker, task) | {
            'options': worker.contender.options, 'seconds': []}
        print(f'{task.name}: {name}: {task.measure} after {task.check_rounds} '
              f'rounds {results[name][task.measure]:.4f}, '
              f'{time.perf_counter() - begun:.0f} s', flush=True)
      for repeat in range(repeats):
        for worker, _ in workers:
          take_turn(worker, task, repeat, results[worker.contender.name])
  return summary(task, results)


def take_turn(worker: Worker, task: Task, repeat: int, result) -> None:
  """One turn of one contender, appended to its seconds."""
  contender = worker.contender
  if repeat >= contender.max_repeats.get(task.name, repeat + 1):
    return
  setting = {key: result[key] for key in ('threads',) if key in result}
  answer = worker.ask('rounds', count=task.turn, **setting)
  result['seconds'].append(answer['seconds'])
  print(f'{task.name}: turn {repeat + 1}: {contender.name}: '
        f'{answer["seconds"]:.4f} s a round', flush=True)


def summary(
    task: Task, results: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
  """Statistics of the turns.

  Args:
    task: the task.
    results: what is known of each contender, with `seconds`, those of a round
      in each of its turns.

  Returns:
    The same with median, quartiles and minimum for `seconds`; and where ours
    took part `ratio`, quartiles of it, and whether it is `valid`.
  """
  ours = results.get(_REFERENCE)
  summaries = {}
  for name, result in results.items():
    seconds = np.array(result['seconds'])
    summaries[name] = {k: v for k, v in result.items() if k != 'seconds'} | {
        'turns': len(seconds), 'median': np.median(seconds),
        'quartiles': list(np.quantile(seconds, (0.25, 0.75))),
        'minimum': seconds.min()}
    if ours is not None:
      ratios = seconds / np.array(ours['seconds'])[:len(seconds)]
      distance = abs(result[task.measure] - ours[task.measure])
      summaries[name] |= {
          'ratio': np.median(ratios),
          'ratio_quartiles': list(np.quantile(ratios, (0.25, 0.75))),
          'valid': bool(distance <= task.band)}
  return summaries


def machine() -> dict[str, Any]:
  """What it ran on: nothing that names the machine."""
  model = re.search(
      r'^model name\s*: (.*)$', Path('/proc/cpuinfo').read_text(), re.M)
  memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  return {
      'cpu': model.group(1) if model else platform.machine(),
      'cores': tasks_lib.cores(), 'memory_gib': round(memory / 2**30, 1),
      'python': platform.python_version()}


def commit() -> str:
  """The commit that is measured; what $COMMIT says outside of a checkout."""
  if not (ROOT / '.git').exists():
    return os.environ.get('COMMIT', '')
  git = lambda *args: subprocess.run(
      ['git', '-C', str(ROOT), *args], check=True, capture_output=True,
      text=True).stdout.strip()
  changed = '+changes' if git('status', '--porcelain', '-uno') else ''
  return git('rev-parse', 'HEAD') + changed


def read(path: Path = RESULTS) -> list[dict[str, Any]]:
  """All result lines."""
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


def latest(results: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
  """The last line of each task as it stands in TASKS, on a CPU, with ours."""
  chosen = {}
  for result in results:
    name = result['task']['name']
    ours = result['contenders'].get(_REFERENCE)
    if (name in TASKS and Task(**result['task']) == TASKS[name]
        and ours is not None and ours['device'] == 'cpu'):
      chosen[name] = result
  return {name: chosen[name] for name in TASKS if name in chosen}


def table(results: list[dict[str, Any]]) -> str:
  """Times as multiples of ours, a line for each contender."""
  columns = latest(results)
  lines = [
      '| | ' + ' | '.join(TASKS[name].title for name in columns) + ' |',
      '|---|' + '---|' * len(columns)]
  for name, contender in CONTENDERS.items():
    own = [result['contenders'].get(name) for result in columns.values()]
    if any(own):
      lines.append(f'| {contender.title} | '
                   + ' | '.join(map(entry, own)) + ' |')
  return '\n'.join(lines) if columns else ''


def entry(result: dict[str, Any] | None) -> str:
  """A ratio to two digits, or why there is none."""
  if result is None:
    return '-'
  if not result['valid']:
    return 'invalid'
  ratio = result['ratio']
  return f'{ratio:.0f}' if ratio >= 9.95 else f'{ratio:.1f}'


def report(
    page: Path = ROOT / 'README.md', name: str = 'speed', path: Path = RESULTS
) -> str:
  """The text of a page with the table of committed results in it."""
  results = read(path)
  return re.sub(
      rf'(?<=<!-- {name} -->\n).*?(?=<!-- end {name} -->)',
      lambda _: f'{table(results)}\n\n{measured_on(results)}\n'.lstrip(),
      page.read_text(),
      flags=re.S)


def measured_on(results: list[dict[str, Any]]) -> str:
  """On what, when, and in how many turns the table was measured."""
  columns = latest(results).values()
  if not columns:
    return ''
  machines = {f'{r["machine"]["cpu"]}, {r["machine"]["cores"]} cores'
              for r in columns}
  once = {CONTENDERS[name].title for r in columns
          for name, one in r['contenders'].items() if one['turns'] == 1}
  text = (f'{"; ".join(sorted(machines))}, '
          f'{max(r["date"] for r in columns)}; medians of '
          + ', '.join(str(r['contenders'][_REFERENCE]['turns'])
                      for r in columns) + ' turns')
  return text + ''.join(
      f'; {title}: one turn on one task' for title in sorted(once)) + '.'


def chosen_contenders(arguments) -> list[Contender]:
  """Those that are asked for, ours once for each number of lanes."""
  chosen = []
  for name in arguments.contenders or CONTENDERS:
    if name != _REFERENCE or not arguments.lanes:
      chosen.append(CONTENDERS[name])
      continue
    for i, lanes in enumerate(arguments.lanes):
      lanes = int(lanes) if lanes.isdigit() else lanes
      chosen.append(CONTENDERS[name]._replace(
          name=f'{name}_lanes_{lanes}' if i else name,
          options={'lanes': lanes}))
  if arguments.before:
    options = {'devices': tasks_lib.cores(), 'lanes': 1}
    chosen = [c._replace(options=options) if c.name == _REFERENCE else c
              for c in chosen]
    chosen.append(CONTENDERS[_REFERENCE]._replace(
        name='before', root=arguments.before.absolute(), options=options))
  return chosen


def chosen_tasks(arguments) -> list[Task]:
  """Those that are asked for, with the fields that are set otherwise."""
  fields = {name: getattr(arguments, name)
            for name in ('clients', 'examples', 'epochs', 'batch_size')}
  fields = {name: value for name, value in fields.items() if value is not None}
  return [TASKS[name]._replace(**fields) for name in arguments.tasks or TASKS]


def parse() -> argparse.Namespace:
  """The command line."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--setup', nargs='*', metavar='ENVIRONMENT')
  parser.add_argument('--report', action='store_true')
  parser.add_argument('--tasks', nargs='+', choices=TASKS)
  parser.add_argument('--contenders', nargs='+', choices=CONTENDERS)
  parser.add_argument('--repeats', type=int, help='turns of each')
  parser.add_argument(
      '--lanes', nargs='+', help='of ours; the first is what ratios refer to')
  parser.add_argument(
      '--here', action='store_true',
      help='run all in this environment, whatever theirs is')
  parser.add_argument('--before', type=Path, metavar='CHECKOUT',
                      help='another revision, as one more contender; both are '
                      'given a device a core and one lane')
  parser.add_argument('--out', type=Path, default=RESULTS)
  for name in ('clients', 'examples', 'epochs', 'batch_size'):
    parser.add_argument(f'--{name}', type=int, help=f'of every task: {name}')
  return parser.parse_args()


def main() -> None:
  arguments = parse()
  if arguments.setup is not None:
    known = [file.stem for file in contenders_lib.REQUIREMENTS.glob('*.txt')]
    for environment in arguments.setup or known:
      contenders_lib.setup(environment)
    return
  if arguments.report:
    (ROOT / 'README.md').write_text(report())
    page = ROOT / 'docs' / 'scaling.md'
    page.write_text(report(page, 'processes', PROCESSES))
    return
  arguments.out.parent.mkdir(parents=True, exist_ok=True)
  for task in chosen_tasks(arguments):
    contenders = chosen_contenders(arguments)
    if arguments.here:
      contenders = [c._replace(environment='') for c in contenders]
    results = measure_all(
        task, contenders, arguments.repeats or task.repeats)
    line = json.dumps({
        'task': task._asdict(), 'date': datetime.date.today().isoformat(),
        'git_commit': commit(), 'machine': machine(), 'contenders': results})
    with arguments.out.open('a') as file:
      file.write(line + '\n')


if __name__ == '__main__':
  main()

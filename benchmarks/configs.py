"""What the configs give: runs each as documented, and keeps the result.

  python -m benchmarks.configs [NAME ...]   run cases that have no result yet
  python -m benchmarks.configs --report     put the table into docs/configs.md

One JSON line for each run goes to benchmarks/results/configs.jsonl, with the
environment it ran in. A case that was stopped goes on where it was.
"""

import argparse
import datetime
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedjax_sim.experiment import metrics, workdir

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / 'results' / 'configs.jsonl'
PAGE = ROOT / 'docs' / 'configs.md'


class Case(NamedTuple):
  """A config with some fields set otherwise, and the seeds to run.

  Attributes:
    config: name of the file in configs/.
    fields: 'name=value', set on the command line.
    seeds: one run each.
    target: the test accuracy whose rounds are told.
    paper: what was published for it, in words.
  """

  config: str
  fields: tuple[str, ...] = ()
  seeds: tuple[int, ...] = (0,)
  target: float = 0.97
  paper: str = '-'

  @property
  def name(self) -> str:
    return ' '.join((self.config, *self.fields))


CASES = (
    Case('digits_quickstart', seeds=(0, 1, 2), target=0.9),
    Case('mnist_iid', seeds=(0, 1, 2), paper='87 and 92 rounds'),
    Case('mnist_noniid', seeds=(0, 1, 2), paper='664 and 831 rounds'),
    Case('mnist_centralized'),
    Case('mnist_course_report', seeds=(0, 1, 2), target=0.9,
         paper='90.73% (the report)'),
    Case('mnist_course_report',
         ('loss=nll_of_softmax', 'client_test_fraction=0.2'),
         seeds=(0, 1, 2), target=0.9, paper='90.73% (the report)'),
    Case('fashion_dirichlet', seeds=(0, 1, 2), target=0.85),
    Case('mnist_one_shot', target=0.97),
    Case('mnist_fedsgd', paper='1,474 and 1,468 rounds'),
    Case('mnist_cnn_iid', seeds=(0, 1), target=0.99, paper='20 rounds'),
    Case('mnist_cnn_iid', ('client_lr=0.1',), target=0.99, paper='20 rounds'),
)


def run(case: Case, seed: int) -> dict:
  """Runs one case, or what is left of it, and returns its result line."""
  folder = ROOT / 'runs' / 'configs' / f'{case.name} seed {seed}'
  fields = [f'--config.{field}' for field in (*case.fields, f'seed={seed}')]
  subprocess.run(
      [sys.executable, 'run.py', f'--config=configs/{case.config}.py',
       f'--workdir={folder}', *fields], cwd=ROOT, check=True)
  rows = [row for row in metrics.read(folder / 'metrics.jsonl')
          if row['round'] > 0]  # Without the model before training.
  record = workdir.read_json(folder / 'config.json')
  tested = [row for row in rows if row.get('test/accuracy') is not None]
  accuracy = [row['test/accuracy'] for row in tested]
  return {
      'config': case.config, 'fields': list(case.fields), 'seed': seed,
      'rounds': rows[-1]['round'], 'target': case.target,
      'rounds_to_target': metrics.rounds_to_target(
          [row['round'] for row in tested], accuracy, case.target),
      'best_accuracy': max(accuracy), 'final_accuracy': accuracy[-1],
      'seconds_a_round': float(np.median([row['seconds'] for row in rows])),
      'date': datetime.date.today().isoformat(),
      'environment': record['environments'][-1],
  }


def read() -> list[dict]:
  """All result lines."""
  if not RESULTS.exists():
    return []
  return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def table(results: list[dict]) -> str:
  """The results as a Markdown table, a line for each case."""
  lines = ['| config | rounds to target, by seed | final test accuracy, by seed'
           ' | published |', '|---|---|---|---|']
  for case in CASES:
    own = [r for r in results if (r['config'], tuple(r['fields'])) == case[:2]]
    if not own:
      continue
    reached = ', '.join(
        'not reached' if r['rounds_to_target'] is None else
        f'{r["rounds_to_target"]:.1f}' for r in own)
    final = ', '.join(f'{r["final_accuracy"]:.2%}' for r in own)
    fields = ''.join(f' `--config.{field}`' for field in case.fields)
    lines.append(f'| `{case.config}.py`{fields} | {case.target:.0%}: {reached} '
                 f'| {final} after {own[0]["rounds"]} | {case.paper} |')
  return '\n'.join(lines)


def report(page: Path = PAGE) -> str:
  """docs/configs.md with the table of the committed results in it."""
  return re.sub(
      r'(?<=<!-- configs -->\n).*?(?=<!-- end -->)',
      lambda _: table(read()) + '\n', page.read_text(), flags=re.S)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('names', nargs='*', help='of configs; none means all')
  parser.add_argument('--report', action='store_true')
  arguments = parser.parse_args()
  if arguments.report:
    PAGE.write_text(report())
    return
  done = {(r['config'], *r['fields'], r['seed']) for r in read()}
  for case in CASES:
    for seed in case.seeds:
      wanted = not arguments.names or case.config in arguments.names
      if wanted and (case.config, *case.fields, seed) not in done:
        line = json.dumps(run(case, seed))
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open('a') as file:
          file.write(line + '\n')


if __name__ == '__main__':
  main()

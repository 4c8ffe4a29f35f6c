"""Whether a revision's first rounds give another's numbers, config by config.

  python -m benchmarks.same_numbers --before CHECKOUT [--data DIR] [CONFIG ...]

Runs every committed config for up to 20 rounds, here and in a checkout of the
other revision, with the same devices and lanes, and compares all numbers of
metrics.jsonl but times: the largest difference relative to the other's value.
Both must have configs of the same names; what takes minutes has fewer rounds,
clients and test examples (`SMALLER`). DIR has a folder for each data set that
is not found otherwise. What the other revision gave is kept in OUT and not
computed again.

A line for each config goes to benchmarks/results/same_numbers.jsonl.
"""

import argparse
import datetime
import json
import math
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import speed
from benchmarks.contenders import ROOT

RESULTS = ROOT / 'benchmarks' / 'results' / 'same_numbers.jsonl'
ROUNDS = 20
# Depends on the machine and the moment.
_TIMES = ('seconds', 'padded_steps', 'imbalance')

_FEW = {'rounds': 2, 'clients_per_round': 2, 'test_examples': 200, 'lanes': 1}
SMALLER = {
    'cifar10_fedavg': _FEW,
    'cifar10_fedsgd': _FEW,
    'cifar10_centralized': {
        'rounds': 2, 'test_examples': 200, 'lanes': 1},
    'shakespeare_iid': _FEW,
    'shakespeare_roles': _FEW,
    'irc_words': _FEW,
    'mnist_cnn_iid': _FEW,
    'mnist_cnn_noniid': _FEW,
    'mnist_fedsgd': {'rounds': 10},
    'mnist_one_shot': {'rounds': 1},
    'mnist_centralized': {'rounds': 3},
}


def configs() -> list[str]:
  """The names of all committed configs."""
  return sorted(file.stem for file in (ROOT / 'configs').glob('*.py')
                if file.stem != '__init__')


def metrics(checkout: Path, name: str, out: Path, data: Path | None):
  """The rows of a config's first rounds, run in a checkout."""
  workdir = out / name
  fields = {'rounds': ROUNDS, 'devices': 1, 'lanes': 2} | SMALLER.get(name, {})
  if data is not None:
    for begin, folder in (('cifar10', 'cifar10'), ('irc', 'messages'),
                          ('shakespeare', 'shakespeare')):
      if name.startswith(begin):
        fields['data_dir'] = str(data / folder)
  file = workdir / 'metrics.jsonl'
  if not (workdir / 'final_params.npz').exists():
    subprocess.run(
        [sys.executable, 'run.py', f'--config=configs/{name}.py',
         f'--workdir={workdir}',
         *(f'--config.{k}={v}' for k, v in fields.items())],
        cwd=checkout, check=True, stdout=subprocess.DEVNULL,
        env=os.environ | {'PYTHONPATH': str(checkout)})
  return [json.loads(line) for line in file.read_text().splitlines()]


def largest_difference(here: list[dict], before: list[dict]) -> tuple:
  """(difference, where) over all numbers that both revisions have."""
  if len(here) != len(before):
    return math.inf, f'{len(here)} and {len(before)} rounds'
  worst = (0.0, 'nowhere')
  for row, old in zip(here, before, strict=True):
    for name in old.keys() & row.keys() - set(_TIMES):
      a, b = row[name], old[name]
      if not isinstance(a, int | float) or a == b:
        continue
      difference = abs(a - b) / max(abs(b), 1e-12)
      worst = max(worst, (difference, f'{name}, round {row["round"]}'))
  return worst


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('configs', nargs='*', metavar='CONFIG')
  parser.add_argument('--before', type=Path, required=True)
  parser.add_argument('--data', type=Path)
  parser.add_argument('--out', type=Path, default=Path('runs/same_numbers'))
  parser.add_argument('--only-before', action='store_true',
                      help='compute what the other revision gives, no more')
  arguments = parser.parse_args()
  out = arguments.out.absolute()
  commit = subprocess.run(
      ['git', '-C', arguments.before, 'rev-parse', '--short', 'HEAD'],
      check=True, capture_output=True, text=True).stdout.strip()
  for name in arguments.configs or configs():
    before = metrics(arguments.before.absolute(), name, out / commit,
                     arguments.data)
    if arguments.only_before:
      print(name, flush=True)
      continue
    here = metrics(ROOT, name, out / 'here', arguments.data)
    difference, where = largest_difference(here, before)
    print(f'{name}: {len(here)} rounds, {difference:.1e} ({where})', flush=True)
    with RESULTS.open('a') as file:
      file.write(json.dumps({
          'config': name, 'rounds': len(here), 'difference': difference,
          'where': where, 'before': commit, 'git_commit': speed.commit(),
          'smaller': SMALLER.get(name, {}), 'machine': speed.machine(),
          'date': datetime.date.today().isoformat()}) + '\n')


if __name__ == '__main__':
  main()

"""Eight learning rates at once, against eight runs one after the other.

  python -m benchmarks.sweep              measure
  python -m benchmarks.sweep --report     table into docs/sweeps.md

IID clients, B = 10, E = 1, evaluation on the whole test set after every round.
"All" counts everything from the arrays to the last round, with nothing compiled
before: a run of its own has its rate in its program, so eight of them compile
eight times. "Rounds" counts warm rounds alone, in turns, the median. Runs of
their own use every core as a device, as run.py does by itself; a sweep puts
members on the cores. How far the test losses of the first round are apart is
told.

A line goes to benchmarks/results/sweep.jsonl.
"""

import argparse
import datetime
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax

import fedjax_sim
from fedjax_sim import algorithms, data, models
from fedjax_sim.core.types import Model
from fedjax_sim.data import partition, sampling
from fedjax_sim.experiment import workdir
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation import sweep as sweep_lib
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.sweep_runs import SweepRuns

RESULTS = Path(__file__).parent / 'results' / 'sweep.jsonl'
PAGE = Path(__file__).parents[1] / 'docs/sweeps.md'
RATES = tuple(float(f'{0.02 * 1.5 ** i:.3g}') for i in range(8))
REPEATS = 3


class Task(NamedTuple):
  """What is trained, and for how many rounds in each turn."""

  title: str
  dataset: str
  num_clients: int
  cohort: int
  model: Callable[[], Model]
  rounds: int


TASKS = {
    'logistic': Task('logistic regression, digits', 'digits', 20, 2,
                     models.logistic_regression, 300),
    '2nn': Task('2NN, MNIST', 'mnist', 100, 10,
                models.mnist_2nn, 15),
    'cnn': Task('CNN, MNIST', 'mnist', 1000, 10,
                models.mnist_cnn, 1),
}


def measure(task: Task) -> dict:
  """Seconds of both ways, and how far their curves are apart."""
  dataset = data.load(task.dataset)
  clients = data.federate(dataset.train, partition.iid(
      len(dataset.train['y']), task.num_clients, seed=0))
  model = task.model()
  make = lambda rate: algorithms.fedavg(model, optax.sgd(rate))
  cohort = task.cohort
  jax.clear_caches()
  begun = time.perf_counter()
  single = [_Single(model, make(rate), clients, cohort, dataset.test)
            for rate in RATES]
  losses = np.array([one.run(task.rounds) for one in single])
  all_single = time.perf_counter() - begun
  jax.clear_caches()
  begun = time.perf_counter()
  sweep = _Sweep(model, make, clients, cohort, dataset.test)
  together = sweep.run(task.rounds)
  all_sweep = time.perf_counter() - begun
  # Later rounds tell summing order from chaos at the highest rates.
  first = losses[:, 0]
  apart = float(np.max(np.abs(first - np.array(together)[:, 0]) / first))
  times = []
  for _ in range(REPEATS):
    begun = time.perf_counter()
    for one in single:
      one.run(task.rounds)
    middle = time.perf_counter()
    sweep.run(task.rounds)
    times.append((middle - begun, time.perf_counter() - middle))
  rounds = np.median([a / b for a, b in times])
  return {'title': task.title, 'all': all_single / all_sweep,
          'rounds': float(rounds), 'apart': apart, 'seconds': {
              'all_single': all_single, 'all_sweep': all_sweep,
              'rounds': times}}


class _Single:
  """A run of its own."""

  def __init__(self, model, algorithm, clients, cohort, test):
    self._simulation = build_lib.build(
        model, algorithm, clients,
        sampling.uniform(clients.num_clients, cohort, 0), test=test,
        devices=len(jax.devices()), lanes=1)
    _ = self._simulation.program.compiled

  def run(self, rounds: int) -> list[float]:
    """Test losses."""
    records = []
    for progress in drive(self._simulation, self._simulation.init(), rounds):
      records += progress.records[0]
    return [record['test/loss'] for record in records]


class _Sweep:
  """All rates at once."""

  def __init__(self, model, make, clients, cohort, test):
    self._members = [sweep_lib.Member(0, {'rate': rate}) for rate in RATES]
    self._sweep = sweep_lib.build(
        model, make, [clients], cohort_size=cohort, num_members=len(RATES),
        example=self._members[0].hyperparameters, test=test)

  def run(self, rounds: int) -> list[list[float]]:
    """Test losses, by rate."""
    losses = [[] for _ in RATES]
    runs = SweepRuns(sweep=self._sweep, members=self._members)
    for progress in drive(runs, self._sweep.init(self._members), rounds):
      for i, records in progress.records.items():
        losses[i] += [record['test/loss'] for record in records]
    return losses


def report() -> str:
  """docs/sweeps.md with the table of the last result in it."""
  line = json.loads(RESULTS.read_text().splitlines()[-1])
  rows = '\n'.join(f'| {t["title"]} | {t["all"]:.1f} | {t["rounds"]:.2f} |'
                   for t in line['tasks'])
  table = (
      'How many times as long eight rates take one after another as all at '
      f'once (`python -m benchmarks.sweep`; {line["environment"]["machine"]}, '
      f'{line["date"]}):\n\n| | with compiling | warm rounds alone |\n'
      f'|---|---|---|\n{rows}\n')
  return re.sub(r'(?<=<!-- sweep -->\n).*?(?=<!-- end sweep -->)',
                lambda _: table, PAGE.read_text(), flags=re.S)


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--report', action='store_true')
  parser.add_argument('--tasks', nargs='+', choices=TASKS, default=list(TASKS))
  arguments = parser.parse_args()
  if arguments.report:
    PAGE.write_text(report())
    return
  fedjax_sim.use_all_cores()
  found = []
  for name in arguments.tasks:
    found.append(measure(TASKS[name]))
    print(found[-1], flush=True)
  with RESULTS.open('a') as file:
    file.write(json.dumps({
        'tasks': found, 'rates': RATES,
        'date': datetime.date.today().isoformat(),
        'environment': workdir.environment()}) + '\n')


if __name__ == '__main__':
  main()

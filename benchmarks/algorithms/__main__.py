"""Every algorithm on one heterogeneous task, with the same budget for tuning.

  python -m benchmarks.algorithms [--only NAME ...]   measure
  python -m benchmarks.algorithms --times             time of a round
  python -m benchmarks.algorithms --bytes             bytes of a round
  python -m benchmarks.algorithms --report            docs/algorithms.md's table

Fashion-MNIST, 2NN, 100 clients whose labels follow a Dirichlet law (0.1), ten
of them a round, E = 2, B = 50, 100 rounds; a fifth of each client's examples is
its own test set. Each algorithm has eight settings (learning rates and what it
has of its own), each with seed 0, all of them one sweep; the best, by rounds to
80% test accuracy and then by the best accuracy, runs with seeds 0, 1 and 2. If
one of these does not get to 80%, the next best setting is run so too, three at
most, and the best of them counts. Where clients get models of their own a
setting is chosen by their mean accuracy at the end. As in the paper of FedAvg
all this is by test accuracy.

A line an algorithm goes to benchmarks/results/algorithms.jsonl; those that the
file has already are left out. Times are measured apart, on an otherwise idle
machine, with the best settings: see times.py. Bytes follow from shapes alone:
see traffic.py.
"""

import argparse
import datetime
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import fedjax_sim
from benchmarks.algorithms import entries, times, traffic
from fedjax_sim import data, evaluation, models
from fedjax_sim.core import compilation
from fedjax_sim.core.types import FederatedAlgorithm, Model
from fedjax_sim.data import partition
from fedjax_sim.experiment import metrics, workdir
from fedjax_sim.simulation import sweep as sweep_lib
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.sweep_runs import SweepRuns

RESULTS = Path(__file__).parents[1] / 'results' / 'algorithms.jsonl'
CLIENTS, COHORT, ROUNDS, ALPHA = 100, 10, 100, 0.1
TARGETS = (0.75, 0.8)
SEEDS = (0, 1, 2)
_LOOKS = 3


class Task(NamedTuple):
  """The data of every seed, and the model.

  Attributes:
    model: 2NN.
    train: a federation a seed.
    own_test: the same clients' own test examples.
    test: the common test set.
  """

  model: Model
  train: list[data.FederatedData]
  own_test: list[data.FederatedData]
  test: dict[str, np.ndarray]


def load() -> Task:
  """Fashion-MNIST, dealt out for every seed."""
  source = data.load('fashion_mnist')
  train, own_test = [], []
  for seed in SEEDS:
    whole = partition.dirichlet(
        source.train['y'], CLIENTS, ALPHA, seed=seed, min_size=20)
    kept, held_out = partition.split(whole, 0.2, seed=seed)
    train.append(data.federate(source.train, kept))
    own_test.append(data.federate(source.train, held_out))
  return Task(models.mnist_2nn(), train, own_test, source.test)


class Outcome(NamedTuple):
  """Curves and last states of the members of a sweep."""

  curves: list[list[float]]
  state: sweep_lib.SweepState


def run(
    task: Task, make: Callable[..., FederatedAlgorithm],
    members: list[sweep_lib.Member],
) -> Outcome:
  """Test accuracies after every round; shorter where a member diverged."""
  sweep = sweep_lib.build(
      task.model, make, task.train, cohort_size=COHORT,
      num_members=len(members), example=members[0].hyperparameters,
      test=task.test)
  curves = [[] for _ in members]
  state = sweep.init(members)
  for progress in drive(
      SweepRuns(sweep=sweep, members=members), state, ROUNDS):
    state = progress.state
    for i, records in progress.records.items():
      curves[i] += [record['test/accuracy'] for record in records]
  return Outcome(curves, state)


def crossing(curve: list[float], target: float) -> float | None:
  """Rounds to a test accuracy."""
  rounds = np.arange(1, len(curve) + 1)
  return metrics.rounds_to_target(rounds, curve, target) if curve else None


class Look(NamedTuple):
  """One setting, run with every seed.

  Attributes:
    setting: name -> number.
    curves: test accuracies of each seed.
    states: the last ones.
  """

  setting: Mapping[str, float]
  curves: list[list[float]]
  states: list[Any]

  @property
  def rounds(self) -> list[float]:
    """To the last target, infinite where a seed does not get there."""
    found = [crossing(curve, TARGETS[-1]) for curve in self.curves]
    return [np.inf if f is None else f for f in found]


def looks(
    task: Task, make: Callable[..., FederatedAlgorithm],
    settings: list[dict[str, float]], tuning: Outcome, by: str,
) -> list[Look]:
  """The settings that were run with every seed, from those of the first."""
  def rank(i):
    found = crossing(tuning.curves[i], TARGETS[-1])
    rounds = np.inf if found is None else found
    return rounds, -max(tuning.curves[i], default=0.0)

  def own(i):
    return -_own_metrics(
        task, make(**settings[i]), tuning.state.of(i), 0)['accuracy/mean']

  found = []
  order = sorted(range(len(settings)), key=rank if by == 'rounds' else own)
  for i in order[:_LOOKS if by == 'rounds' else 1]:
    others = run(task, make, [
        sweep_lib.Member(SEEDS[k], settings[i], k)
        for k in range(1, len(SEEDS))])
    found.append(Look(
        settings[i], [tuning.curves[i], *others.curves],
        [tuning.state.of(i), *map(others.state.of, (0, 1))]))
    if np.isfinite(found[-1].rounds).all():
      break
  return found


def measure(task: Task, entry: entries.Entry) -> dict[str, Any]:
  """The result line of an algorithm."""
  make = lambda **numbers: entry.make(task.model, **numbers)
  settings = [dict(zip(entry.grid, values, strict=True))
              for values in itertools.product(*entry.grid.values())]
  tuning = run(task, make, [sweep_lib.Member(0, s, 0) for s in settings])
  tried = looks(task, make, settings, tuning, entry.by)
  best = min(tried, key=lambda look: sorted(look.rounds)[1:])
  algorithm = make(**best.setting)
  return {
      'name': entry.name, 'family': entry.family, 'best': best.setting,
      'grid': {k: list(v) for k, v in entry.grid.items()},
      'tried': [{**s, 'best_accuracy': max(c, default=None),
                 'rounds': crossing(c, TARGETS[-1])}
                for s, c in zip(settings, tuning.curves, strict=True)],
      'with_all_seeds': [look.setting for look in tried],
      'rounds': {f'{t:g}': [crossing(c, t) for c in best.curves]
                 for t in TARGETS},
      'final': [float(np.mean(c[-10:])) if len(c) == ROUNDS else None
                for c in best.curves],
      'curves': [[round(a, 4) for a in c] for c in best.curves],
      'own': [_own_metrics(task, algorithm, state, i)
              for i, state in enumerate(best.states)],
      'date': datetime.date.today().isoformat(),
      'environment': workdir.environment()}


def _own_metrics(
    task: Task, algorithm: FederatedAlgorithm, state, i: int
) -> dict[str, float]:
  """Accuracies of what each client is given, on its own test examples."""
  return evaluation.evaluate_clients(
      task.model, algorithm, state, task.train[i], task.own_test[i],
      key=jax.random.key(SEEDS[i])).summary()


def read(path: Path = RESULTS) -> dict[str, Mapping[str, Any]]:
  """Name -> result line."""
  if not path.exists():
    return {}
  lines = map(json.loads, path.read_text().splitlines())
  return {line['name']: line for line in lines}


def measured() -> dict[str, Mapping[str, Any]]:
  """The result lines, in the order of `ENTRIES`."""
  known = read()
  names = [entry.name for entry in entries.ENTRIES]
  return {name: known[name] for name in names if name in known}


def measure_apart(
    known: dict[str, Mapping[str, Any]], path: Path,
    lines: Callable[..., Iterable[Mapping[str, Any]]], *args,
) -> None:
  """Writes what is measured of all algorithms with their best settings.

  Args:
    known: the result lines.
    path: of the other results.
    lines: `(model, federation, name -> algorithm, *args) -> lines`.
    *args: see there.
  """
  task, chosen = load(), {}
  for entry in entries.ENTRIES:
    if entry.name in known:
      chosen[entry.name] = entry.make(task.model, **known[entry.name]['best'])
  with path.open('w') as file:
    for line in lines(task.model, task.train[0], chosen, *args):
      print(line, flush=True)
      file.write(json.dumps(line) + '\n')


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--only', nargs='+', default=[], help='names')
  parser.add_argument('--times', action='store_true')
  parser.add_argument('--bytes', action='store_true')
  parser.add_argument('--report', action='store_true')
  options = parser.parse_args()
  if options.report:
    from benchmarks.algorithms import report  # Here: it draws.
    print(report.write(
        measured(), read(times.RESULTS), read(traffic.RESULTS)))
    return
  fedjax_sim.use_all_cores()
  compilation.keep_programs()
  known = read()
  if options.times:
    measure_apart(known, times.RESULTS, times.measure, COHORT)
    return
  if options.bytes:
    measure_apart(known, traffic.RESULTS, traffic.measure)
    return
  task = load()
  for entry in entries.ENTRIES:
    if entry.name in known or options.only and entry.name not in options.only:
      continue
    line = measure(task, entry)
    print(entry.name, line['best'], line['rounds'], line['final'], flush=True)
    with RESULTS.open('a') as file:
      file.write(json.dumps(line) + '\n')
    jax.clear_caches()


if __name__ == '__main__':
  main()

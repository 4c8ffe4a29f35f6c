"""What FedAvg is compared with: averaging once, and uniform averages.

  python -m benchmarks.paper.comparisons

2NN on MNIST, 100 clients, seeds 0, 1, 2, each way at the best of three learning
rates by its final test accuracy, as the paper tunes.

One shot: 20 local epochs of all clients, averaged after 20, 5 or 1 of them
(the paper's reference is Zhang et al. 2012, section 1 there).

Weights: n_k / n, the paper's, or 1 / M, which textbooks give FedSGD, on clients
whose sizes differ: by a log-normal law (sigma 1.5), examples IID; or as a
Dirichlet law of labels (0.1) makes them.

A line a way goes to benchmarks/results/paper/comparisons.jsonl; ways that the
file has already are left out.
"""

import datetime
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fedjax_sim
from configs import default
from fedjax_sim.core import compilation
from fedjax_sim.experiment import build_sweep, workdir
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.sweep_runs import SweepRuns

RESULTS = (
    Path(__file__).parents[1] / 'results' / 'paper' / 'comparisons.jsonl')
SEEDS = (0, 1, 2)
_PARTITIONS = {
    'IID': {'partition': 'iid'},
    'two label shards': {'partition': 'shards(2)'},
    'IID, unequal sizes': {'partition': 'quantity(sigma=1.5)'},
    'Dirichlet 0.1': {'partition': 'dirichlet(0.1)'},
}
_WEIGHTS = {'examples': 'n_k / n', 'uniform': '1 / M'}


class Way(NamedTuple):
  """One line: fields of the config, and the rates to try."""

  topic: str
  clients: str
  way: str
  fields: dict[str, Any]
  rates: tuple[float, ...]

  @property
  def name(self) -> str:
    return f'{self.topic}; {self.clients}; {self.way}'


def ways() -> list[Way]:
  found = []
  for clients in ('IID', 'two label shards'):
    for rounds in (1, 4, 20):
      epochs = 20 // rounds
      found.append(Way(
          'one shot', clients, f'{rounds} x {epochs} epochs', {
              **_PARTITIONS[clients], 'client_fraction': 1.0,
              'local_epochs': epochs, 'rounds': rounds},
          (0.1, 0.2154, 0.4642)))
  for clients in ('IID, unequal sizes', 'Dirichlet 0.1'):
    for title, fields, rates in (
        ('FedSGD', {'algorithm': 'fedsgd', 'rounds': 100},
         (0.2154, 0.4642, 1.0)),
        ('FedAvg, E = 1, B = 10', {'rounds': 50}, (0.04642, 0.1, 0.2154))):
      found += [
          Way('weights', clients, f'{title}, {text}',
              {**_PARTITIONS[clients], **fields, 'weighting': weighting}, rates)
          for weighting, text in _WEIGHTS.items()]
  return found


def measure(way: Way) -> dict[str, list[float | None]]:
  """Rate -> final test accuracy of each seed; None where it diverged."""
  config = default.get_config()
  config.update(way.fields)
  settings = [{'client_lr': rate, 'seed': seed}
              for rate in way.rates for seed in SEEDS]
  sweep, members = build_sweep.build_sweep(config, settings)
  final = [None] * len(members)
  for progress in drive(
      SweepRuns(sweep=sweep, members=members), sweep.init(members),
      config.rounds, evaluate=lambda r: r == config.rounds - 1):
    for i, records in progress.records.items():
      final[i] = records[-1].get('test/accuracy') if records else None
    for i in progress.diverged:
      final[i] = None
  return {f'{rate:.4g}': final[len(SEEDS) * k:len(SEEDS) * (k + 1)]
          for k, rate in enumerate(way.rates)}


def line(way: Way, final: dict[str, list[float | None]]) -> dict[str, Any]:
  """The record of a way."""
  median = lambda rate: np.median([a or 0.0 for a in final[rate]])
  best = max(final, key=median)
  return {
      'name': way.name, 'topic': way.topic, 'clients': way.clients,
      'way': way.way, 'config': way.fields, 'accuracy': final,
      'best_rate': best, 'median': float(median(best)), 'seeds': SEEDS,
      'date': datetime.date.today().isoformat(),
      'environment': workdir.environment()}


def main() -> None:
  fedjax_sim.use_all_cores()
  compilation.keep_programs()
  known = RESULTS.read_text().splitlines() if RESULTS.exists() else []
  known = {json.loads(text)['name'] for text in known}
  for way in [way for way in ways() if way.name not in known]:
    found = line(way, measure(way))
    print(way.name, found['best_rate'], found['median'], flush=True)
    with RESULTS.open('a') as file:
      file.write(json.dumps(found) + '\n')


if __name__ == '__main__':
  main()

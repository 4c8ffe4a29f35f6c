"""Who talks to whom: a server, edges under a cloud, graphs without a server.

  python -m benchmarks.topologies             measure
  python -m benchmarks.topologies --report    table into docs/topologies.md

Logistic regression on MNIST, 100 clients of two shards each, all of them in
each round, E = 1, B = 10, one learning rate for all, which was not tuned. The
test accuracy is that of the global model, of what the cloud's average would be,
or of the mean of all clients' models. "Alike" edges have clients of all labels,
"different" ones those of few. Bytes are of all clients in a round, in one
direction, and between edges and cloud on average over the rounds.

A line goes to benchmarks/results/topologies.jsonl.
"""

import argparse
import datetime
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optax

import fedjax_sim as fs
from fedjax_sim.core.types import FederatedAlgorithm, Model
from fedjax_sim.experiment import workdir

RESULTS = Path(__file__).parent / 'results' / 'topologies.jsonl'
PAGE = Path(__file__).parents[1] / 'docs/topologies.md'
CLIENTS, EDGES, ROUNDS, RATE, SEEDS = 100, 10, 40, 0.05, (0, 1, 2)
LOOKS = (10, 40)
SHOWN = ('consensus/distance', 'consensus/spectral_gap', 'bytes_up')

Make = Callable[[Model, optax.GradientTransformation], FederatedAlgorithm]


def _gossip(graph: fs.topologies.Graph) -> Make:
  return lambda model, sgd: fs.algorithms.dpsgd(model, sgd, graph=graph)


def _edges(edge_of: np.ndarray, kappa2: int) -> Make:
  return lambda model, sgd: fs.algorithms.hierfavg(
      model, sgd, edges=edge_of, kappa2=kappa2)


def entries(labels: np.ndarray, parts: fs.data.partition.Partition
            ) -> dict[str, Make]:
  """Name -> what makes the algorithm."""
  main = [np.bincount(labels[part]).argmax() for part in parts]
  rank = np.empty(CLIENTS, int)
  rank[np.argsort(main, kind='stable')] = np.arange(CLIENTS)
  alike, different = rank % EDGES, rank * EDGES // CLIENTS
  return {
      'FedAvg': fs.algorithms.fedavg,
      **{f'10 {kind} edges, kappa2 = {kappa2}': _edges(edge_of, kappa2)
         for kind, edge_of, kappa2 in (
             ('alike', alike, 10), ('different', different, 2),
             ('different', different, 10))},
      'complete graph': _gossip(fs.topologies.complete()),
      'random, degree 4': _gossip(fs.topologies.random_regular(4)),
      'torus': _gossip(fs.topologies.torus()),
      'ring': _gossip(fs.topologies.ring()),
      'star': _gossip(fs.topologies.star()),
  }


def measure(name: str, make: Make, dataset, train) -> dict[str, Any]:
  """What all seeds' records say."""
  model = fs.models.logistic_regression()
  found = fs.sweep(
      model, lambda rate: make(model, optax.sgd(rate)), train, rounds=ROUNDS,
      seeds=SEEDS, learning_rates=[RATE], client_fraction=1.0,
      test=dataset.test, eval_every=min(LOOKS))
  records = [{one['round']: one for one in result.records}
             for result in found.values()]
  last = records[0][ROUNDS]
  edge = sum(one.get('bytes_edge_up', 0) for one in records[0].values())
  return {
      'name': name,
      'accuracy': {look: [one[look]['test/accuracy'] for one in records]
                   for look in LOOKS},
      'edge_bytes': edge / ROUNDS,
      **{field: last[field] for field in SHOWN if field in last}}


def report() -> str:
  """docs/topologies.md with the table of the last result in it."""
  line = json.loads(RESULTS.read_text().splitlines()[-1])
  head = ''.join(f' % after {look} rounds |' for look in LOOKS)
  table = (
      f'| | spectral gap |{head} distance | MB a round | edges and cloud |\n'
      f'|---|--:|{"--:|" * len(LOOKS)}--:|--:|--:|\n'
      + ''.join(map(_row, line['topologies']))
      + f'\nMedians of {len(SEEDS)} seeds and their range; the distance from '
      'consensus is that of seed 0 after the last round. '
      f'{line["environment"]["machine"]}, {line["date"]}.\n')
  return re.sub(r'(?<=<!-- topologies -->\n).*?(?=<!-- end topologies -->)',
                lambda _: table, PAGE.read_text(), flags=re.S)


def _row(one: Mapping[str, Any]) -> str:
  shown = lambda field, text: (
      format(one[field], text) if field in one else '-')
  accuracy = [f'{100 * np.median(x):.1f} ({100 * min(x):.1f} to '
              f'{100 * max(x):.1f})' for x in one['accuracy'].values()]
  edge = f'{one["edge_bytes"] / 1e6:.3f}' if one['edge_bytes'] else '-'
  cells = [one['name'], shown('consensus/spectral_gap', '.4f'), *accuracy,
           shown('consensus/distance', '.3f'), f'{one["bytes_up"] / 1e6:.2f}',
           edge]
  return f'| {" | ".join(cells)} |\n'


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--report', action='store_true')
  if parser.parse_args().report:
    PAGE.write_text(report())
    return
  dataset = fs.data.load('mnist')
  labels = dataset.train['y']
  parts = fs.data.partition.shards(labels, CLIENTS, 2, seed=0)
  train, found = fs.data.federate(dataset.train, parts), []
  for name, make in entries(labels, parts).items():
    found.append(measure(name, make, dataset, train))
    print(found[-1], flush=True)
  with RESULTS.open('a') as file:
    file.write(json.dumps({
        'topologies': found, 'date': datetime.date.today().isoformat(),
        'environment': workdir.environment()}) + '\n')


if __name__ == '__main__':
  main()

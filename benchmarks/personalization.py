"""What personalization gives each client: accuracy before and after.

  python -m benchmarks.personalization [--data fashion_mnist|mnist_by_writer]

Fashion-MNIST, sorted by label and dealt as two shards to each of 100 clients;
or MNIST by its 539 writers. A fifth of each client's own data is held out, and
a fifth of the clients never take part: what these get, with no more than their
own training data, is given apart. The 2NN, 50 rounds of 10 clients, B = 10,
E = 2, one rate for all (`RATE`): nothing is tuned.

  before   accuracy of the global model on a client's held-out data; of FedPer
           and FedRep, whose global model has no trained head, FedAvg's
  after    accuracy of what the algorithm's `personalize` gives the client

A line a run goes to benchmarks/results/personalization.jsonl, a point a client
to docs/algorithms/personalization.png (_writers for MNIST by writer). Some
minutes on two cores.
"""

import argparse
import datetime
import json
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import optax

from fedjax_sim import algorithms, data, evaluation, models
from fedjax_sim.clients.local_training import local_training
from fedjax_sim.core.types import FederatedAlgorithm, Model
from fedjax_sim.data import partition as partition_lib
from fedjax_sim.experiment import plots, workdir
from fedjax_sim.experiment.simulate import simulate

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / 'benchmarks' / 'results' / 'personalization.jsonl'
PLOTS = {name: ROOT / 'docs' / 'algorithms' / file for name, file in (
    ('fashion_mnist', 'personalization.png'),
    ('mnist_by_writer', 'personalization_writers.png'))}
ROUNDS, COHORT, CLIENTS, RATE, SEED = 50, 10, 100, 0.05, 0
LOCAL = {'epochs': 2, 'batch_size': 10}
# Without a trained head, the global model of these says nothing.
HEADLESS = ('FedPer', 'FedRep')

# group -> (train, test) federations.
Groups = Mapping[str, tuple[data.FederatedData, data.FederatedData]]


def contenders(model: Model) -> dict[str, FederatedAlgorithm]:
  """What is compared, FedAvg first."""
  sgd = optax.sgd(RATE)
  head = {'personal': 'dense_2', **LOCAL}  # The last of the 2NN's layers.
  tuned = local_training(model, sgd, epochs=5, batch_size=10)
  return {
      'FedAvg, fine-tuned': algorithms.finetune(
          algorithms.fedavg(model, sgd, **LOCAL), tuned),
      'Ditto': algorithms.ditto(model, sgd, lam=0.1, **LOCAL),
      'APFL, adaptive': algorithms.apfl(model, sgd, adaptive=True, **LOCAL),
      'FedPer': algorithms.fedper(model, sgd, **head),
      'FedRep': algorithms.fedrep(model, sgd, head_epochs=5, **head),
      'pFedMe': algorithms.pfedme(
          model, sgd, lam=15.0, personal_lr=RATE, **LOCAL),
      'Per-FedAvg': algorithms.per_fedavg(
          model, sgd, personal_lr=RATE, **LOCAL),
  }


def federations(
    name: str, num_clients: int, data_dir: str | None
) -> tuple[Groups, int]:
  """The clients that take part and those that never do; number of classes."""
  dataset = data.load(name, data_dir)
  if name == 'mnist_by_writer':
    names, partition = dataset.natural
  else:
    partition = partition_lib.shards(
        dataset.train['y'], num_clients, 2, seed=SEED)
    names = [str(i) for i in range(num_clients)]
  halves = partition_lib.split(partition, 0.2, seed=SEED)
  order = np.random.default_rng(SEED).permutation(len(partition))
  cut = len(order) - len(order) // 5

  def group(clients):
    return tuple(data.federate(
        dataset.train, [half[i] for i in clients], [names[i] for i in clients],
        allow_empty=True) for half in halves)

  return {'seen': group(order[:cut]), 'unseen': group(order[cut:])}, (
      dataset.num_classes)


def measure(model, algorithm, groups: Groups, rounds: int):
  """group -> (before, after), accuracies [N]; and seconds of the training."""
  begun = time.perf_counter()
  state = simulate(
      model, algorithm, groups['seen'][0], rounds=rounds, seed=SEED,
      clients_per_round=COHORT, devices=1, lanes=COHORT).state
  seconds = time.perf_counter() - begun
  accuracies = {}
  for group, (train, test) in groups.items():
    pair = evaluation.before_and_after(
        model, algorithm, state, train, test, key=jax.random.key(SEED),
        new_clients=group == 'unseen')
    accuracies[group] = tuple(x.values['accuracy'] for x in pair)
  return accuracies, seconds


def percentiles(values: np.ndarray) -> dict[str, float]:
  """Over the clients that have data."""
  values = values[np.isfinite(values)]
  low, median, high = np.percentile(values, [10, 50, 90])
  return {'mean': float(values.mean()), 'p10': float(low), 'p50': float(median),
          'p90': float(high), 'worst': float(values.min())}


def report(name: str, accuracies, seconds: float) -> None:
  for group, (before, after) in accuracies.items():
    text = ['  '.join(f'{k} {v:6.1%}' for k, v in percentiles(x).items())
            for x in (before, after)]
    print(f'{name:20} {group:6}  before {text[0]}\n{"":29}after  {text[1]}',
          flush=True)
  print(f'{"":29}{seconds:.0f} s')


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--data', choices=PLOTS, default='fashion_mnist')
  parser.add_argument('--data_dir')
  parser.add_argument('--rounds', type=int, default=ROUNDS)
  parser.add_argument('--clients', type=int, default=CLIENTS,
                      help='of Fashion-MNIST')
  parser.add_argument('--results', type=Path, default=RESULTS)
  parser.add_argument('--plot', type=Path)
  arguments = parser.parse_args()
  groups, num_classes = federations(
      arguments.data, arguments.clients, arguments.data_dir)
  model = models.mnist_2nn(num_classes)
  runs, rows = {}, {}
  for name, algorithm in contenders(model).items():
    runs[name], seconds = measure(model, algorithm, groups, arguments.rounds)
    if name in HEADLESS:
      first = next(iter(runs.values()))
      runs[name] = {group: (first[group][0], after)
                    for group, (_, after) in runs[name].items()}
    report(name, runs[name], seconds)
    rows[name] = {'seconds': seconds} | {
        group: {'before': percentiles(before), 'after': percentiles(after)}
        for group, (before, after) in runs[name].items()}
  plot = arguments.plot or PLOTS[arguments.data]
  plot.parent.mkdir(parents=True, exist_ok=True)
  plots.before_and_after(
      runs, plot, title=f'{arguments.data}: accuracy of each client on its own '
      f'held-out data, after {arguments.rounds} rounds')
  result = {
      'data': arguments.data, 'rounds': arguments.rounds, 'cohort': COHORT,
      'clients': {group: train.num_clients
                  for group, (train, _) in groups.items()},
      'rate': RATE, 'local': LOCAL, 'algorithms': rows,
      'date': datetime.date.today().isoformat(),
      'environment': workdir.environment()}
  arguments.results.parent.mkdir(exist_ok=True)
  with arguments.results.open('a') as file:
    file.write(json.dumps(result) + '\n')


if __name__ == '__main__':
  main()

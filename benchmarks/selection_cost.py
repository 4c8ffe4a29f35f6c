"""How much longer a round takes whose cohort is chosen by losses.

  python -m benchmarks.selection_cost [--rounds 100] [--repeats 5]

The 2NN on MNIST as configs/mnist_noniid.py has it: 100 clients of 600 examples,
10 a round, B = 10, E = 1, without evaluation. Samplers take turns; of each turn
the seconds of all its rounds are taken, planning and measuring too, once
everything is compiled. The median over turns is printed, and that of the ratio
to `uniform` in the same turn.

A line goes to benchmarks/results/selection_cost.jsonl.
"""

import argparse
import datetime
import json
import time
from pathlib import Path

import numpy as np
import optax

import fedjax_sim
from fedjax_sim import algorithms, data, models
from fedjax_sim.data import partition, sampling
from fedjax_sim.experiment import workdir
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.simulation import Simulation

RESULTS = Path(__file__).parent / 'results' / 'selection_cost.jsonl'
SAMPLERS = {
    'uniform': lambda sizes: sampling.uniform(len(sizes), 10, 0),
    'power_of_choice(20)': lambda sizes: data.power_of_choice(
        sizes, 10, 0, candidates=20),
    'power_of_choice(20), batch of 50': lambda sizes: data.power_of_choice(
        sizes, 10, 0, candidates=20, losses='batch', batch_size=50),
    'power_of_choice(20), stale': lambda sizes: data.power_of_choice(
        sizes, 10, 0, candidates=20, losses='stale'),
    'oort': lambda sizes: data.oort(sizes, 10, 0),
}


def simulations() -> dict[str, Simulation]:
  """One for each sampler."""
  mnist, model = data.load('mnist'), models.mnist_2nn()
  train = data.federate(mnist.train, partition.shards(
      mnist.train['y'], 100, 2, seed=0))
  algorithm = algorithms.fedavg(model, optax.sgd(0.1), batch_size=10)
  return {name: build_lib.build(model, algorithm, train, make(train.sizes))
          for name, make in SAMPLERS.items()}


def seconds(one: Simulation, rounds: int) -> float:
  """Of a round, on average."""
  state = one.init()
  begun = time.perf_counter()
  for _ in drive(one, state, rounds, evaluate=lambda r: False):
    pass
  return (time.perf_counter() - begun) / rounds


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--rounds', type=int, default=100)
  parser.add_argument('--repeats', type=int, default=5)
  arguments = parser.parse_args()
  fedjax_sim.use_all_cores()
  every = simulations()
  for one in every.values():
    seconds(one, 3)  # Compiles.
  times = {name: [] for name in every}
  for _ in range(arguments.repeats):
    for name, one in every.items():
      times[name].append(seconds(one, arguments.rounds))
  for name, own in times.items():
    ratio = np.median(np.divide(own, times['uniform']))
    print(f'{name:<34} {1e3 * np.median(own):8.2f} ms  {ratio:.2f} times')
  one = every['uniform']
  with RESULTS.open('a') as file:
    file.write(json.dumps({
        'seconds': times, 'rounds': arguments.rounds,
        'devices': one.placement.size, 'lanes': one.lanes,
        'date': datetime.date.today().isoformat(),
        'environment': workdir.environment()}) + '\n')


if __name__ == '__main__':
  main()

"""Federations of up to a million clients: start-up, memory, time of a round.

  python -m benchmarks.many_clients [--clients 1000 100000 1000000]

Clients have log-normal sizes (median 4, sigma 1, so about 7 on average and
several hundreds at most) of MNIST's training images, drawn with replacement,
in a memory-mapped folder that is written first. The 2NN, 100 clients a round,
B = 10, E = 1, no evaluation. Each number of clients is measured in a process of
its own:

  start    seconds from the start of Python to the end of the first round, with
           nothing compiled earlier
  memory   peak resident memory; pages of the mapped files that were used count
  round    seconds a round, the median of dispatches after the first

A line goes to benchmarks/results/many_clients.jsonl.
"""

import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / 'results' / 'many_clients.jsonl'
COHORT, ROUNDS = 100, 400


def write(folder: Path, num_clients: int) -> None:
  """Writes the federation."""
  from fedjax_sim import data
  mnist = data.load('mnist').train
  rng = np.random.default_rng(0)
  sizes = np.ceil(rng.lognormal(np.log(4), 1, num_clients)).astype(int)

  def clients():
    for i, size in enumerate(sizes.tolist()):
      rows = rng.integers(0, 60_000, size)
      yield i, {'x': mnist['x'][rows], 'y': mnist['y'][rows]}

  data.write_mapped(folder, clients())


def measure(folder: Path) -> dict[str, float]:
  """In a new process: see above."""
  begun = time.perf_counter()
  import optax

  import fedjax_sim
  from fedjax_sim import algorithms, data, models, simulator
  from fedjax_sim.data import sampling
  fedjax_sim.use_all_cores()
  federation = data.open_mapped(folder)
  model = models.mnist_2nn()
  simulation = simulator.build(
      model, algorithms.fedavg(model, optax.sgd(0.05), batch_size=10),
      federation, sampling.uniform(federation.num_clients, COHORT, seed=0),
      devices=len(os.sched_getaffinity(0)), lanes=1)
  state = simulation.init()
  program = simulation.compile(state)
  seconds, start = [], None
  for _, rows in simulation.dispatches(
      program, state, ROUNDS, evaluate=lambda r: False):
    start = start or time.perf_counter() - begun
    seconds += [(time.perf_counter(), len(rows))]
  return {
      'clients': federation.num_clients, 'examples': federation.num_examples,
      'start': start, 'round': float(np.median([
          (b[0] - a[0]) / b[1]
          for a, b in zip(seconds[1:], seconds[2:], strict=False)])),
      'memory_mib': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--clients', type=int, nargs='+',
                      default=[1_000, 100_000, 1_000_000])
  parser.add_argument('--measure', type=Path, help='used by the script itself')
  arguments = parser.parse_args()
  if arguments.measure:
    print(json.dumps(measure(arguments.measure)))
    return
  from fedjax_sim import workdir
  rows = []
  for count in arguments.clients:
    with tempfile.TemporaryDirectory() as folder:
      begun = time.perf_counter()
      write(Path(folder) / 'federation', count)
      written = time.perf_counter() - begun
      output = subprocess.run(
          [sys.executable, '-m', 'benchmarks.many_clients', '--measure',
           Path(folder) / 'federation'], check=True, capture_output=True,
          text=True, env=os.environ | {'JAX_ENABLE_COMPILATION_CACHE': '0'})
      rows.append(json.loads(output.stdout.splitlines()[-1])
                  | {'write': written})
      print(rows[-1], flush=True)
  with RESULTS.open('a') as file:
    file.write(json.dumps({
        'rows': rows, 'cohort': COHORT, 'rounds': ROUNDS,
        'date': datetime.date.today().isoformat(),
        'environment': workdir.environment()}) + '\n')


if __name__ == '__main__':
  main()

"""Federations of up to a million clients: start-up, memory, time of a round.

  python -m benchmarks.many_clients [--clients 1000 100000 1000000]
                                    [--processes 2]

Clients have log-normal sizes (median 4, sigma 1, so about 7 on average and
several hundreds at most) of MNIST's training images, drawn with replacement,
in a memory-mapped folder that is written first. The 2NN, 100 clients a round,
B = 10, E = 1, no evaluation. Each number of clients is measured in a process of
its own:

  start    seconds from the start of Python to the end of the first round, with
           nothing compiled earlier
  memory   peak resident memory; pages of the mapped files that were used count;
           with several processes, of the first
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
  import jax
  import optax

  import fedjax_sim
  from fedjax_sim import algorithms, data, models
  from fedjax_sim.data import sampling
  from fedjax_sim.simulation import build as build_lib
  from fedjax_sim.simulation.drive import drive
  fedjax_sim.use_all_cores()
  federation = data.open_mapped(folder)
  model = models.mnist_2nn()
  simulation = build_lib.build(
      model, algorithms.fedavg(model, optax.sgd(0.05), batch_size=10),
      federation, sampling.uniform(federation.num_clients, COHORT, seed=0),
      devices=len(jax.devices()), lanes=1)
  state = simulation.init()
  seconds, start = [], None
  for progress in drive(simulation, state, ROUNDS):
    start = start or time.perf_counter() - begun
    seconds += [(time.perf_counter(), len(progress.records[0]))]
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
  parser.add_argument('--processes', type=int, default=1)
  parser.add_argument('--measure', type=Path, help='used by the script itself')
  parser.add_argument('--join', nargs=2, help='used by the script itself')
  arguments = parser.parse_args()
  from fedjax_sim.experiment import processes, workdir
  if arguments.measure:
    if arguments.join:
      processes.join(
          arguments.join[1], arguments.processes, int(arguments.join[0]))
    result = measure(arguments.measure)
    if processes.is_first():
      (arguments.measure.parent / 'result.json').write_text(json.dumps(result))
    return
  rows = []
  for count in arguments.clients:
    with tempfile.TemporaryDirectory() as folder:
      begun = time.perf_counter()
      write(Path(folder) / 'federation', count)
      written = time.perf_counter() - begun
      os.environ['JAX_ENABLE_COMPILATION_CACHE'] = '0'
      command = [
          sys.executable, '-m', 'benchmarks.many_clients', '--processes',
          str(arguments.processes), '--measure', Path(folder) / 'federation']
      if arguments.processes == 1:
        subprocess.run(command, check=True)
      elif processes.launch(
          arguments.processes,
          lambda i, at, command=command: [*command, '--join', str(i), at]):
        raise RuntimeError('a process failed')
      rows.append(json.loads((Path(folder) / 'result.json').read_text())
                  | {'write': written, 'processes': arguments.processes})
      print(rows[-1], flush=True)
  with RESULTS.open('a') as file:
    file.write(json.dumps({
        'rows': rows, 'cohort': COHORT, 'rounds': ROUNDS,
        'date': datetime.date.today().isoformat(),
        'environment': workdir.environment()}) + '\n')


if __name__ == '__main__':
  main()

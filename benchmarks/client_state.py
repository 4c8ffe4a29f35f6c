"""A personal model for each of many clients: on disk, and on the device.

  python -m benchmarks.client_state [--clients 100000] [--beside 1000]

Clients have 10 examples of 784 pixels each (drawn around a mean for each class,
in a memory-mapped folder) and a logistic regression of their own, 7,850
float32. A round has 100 clients; each trains the global model and its own for
one epoch, B = 10: as little work for a state as there can be. The many clients'
states are stored, and all of them are written before the first round; fewer
ones' are stored, and on the device, for comparison. Each case has a process of
its own, one device and one lane:

  round        seconds a round: the median of groups of rounds, without the
               first of them; moving states is part of it
  moved        bytes a round from the store, and to it
  memory       resident MiB after the rounds, without pages of mapped files;
  with_files   with them: the system takes these back when it needs memory
  file         bytes of the store
  checkpoint   seconds to write one, after the rounds
  ratio        of `round` to that of the same clients on the device, or of as
               many as fit

A line goes to benchmarks/results/client_state.jsonl.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / 'results' / 'client_state.jsonl'
COHORT, ROUNDS, EXAMPLES, PIXELS, CLASSES = 100, 400, 10, 784, 10
_BLOCK = 1000


def write(folder: Path, num_clients: int) -> None:
  """Writes the federation."""
  from fedjax_sim import data
  rng = np.random.default_rng(0)
  means = rng.integers(0, 256, (CLASSES, PIXELS))

  def clients():
    for i in range(num_clients):
      y = rng.integers(0, CLASSES, EXAMPLES).astype(np.int32)
      noise = rng.integers(-40, 41, (EXAMPLES, PIXELS))
      yield i, {'x': np.clip(means[y] + noise, 0, 255).astype(np.uint8), 'y': y}

  data.write_mapped(folder, clients())


def personal(model):
  """FedAvg, and beside it a model of each client's own that never leaves it."""
  import optax

  from fedjax_sim.algorithms.fedavg import from_client_update
  from fedjax_sim.clients.local_sgd import difference, run_sgd
  from fedjax_sim.core.types import ClientOutput

  def client(server, own, data, key):
    train = lambda variables: run_sgd(
        model, optax.sgd(0.1), variables, data, key, batch_size=EXAMPLES)
    local = train(server.variables)
    message = difference(local.variables, server.variables, data.size)
    return ClientOutput(message, train(own).variables, local.metrics)

  return from_client_update(client)._replace(
      client_init=lambda variables: variables,
      personalize=lambda state, own, data, key: own)


def count_bytes() -> dict[str, int]:
  """What goes from and to stores from now on."""
  from fedjax_sim.simulation.placement.client_store import ClientStore
  moved = {'read': 0, 'written': 0}
  read, write = ClientStore.read, ClientStore.write

  def counted_read(self, clients, length=None):
    moved['read'] += len(clients) * self.record_bytes
    return read(self, clients, length)

  def counted_write(self, clients, states):
    moved['written'] += len(clients) * self.record_bytes
    write(self, clients, states)

  ClientStore.read, ClientStore.write = counted_read, counted_write
  return moved


def resident() -> tuple[float, float]:
  """MiB, without mapped files and with them."""
  fields = dict(line.split(':', 1) for line in Path(
      '/proc/self/status').read_text().splitlines())
  mib = lambda name: int(fields[name].split()[0]) / 1024
  return mib('RssAnon') + mib('RssShmem'), mib('VmRSS')


def fill(store, num_clients: int) -> float:
  """Seconds to write a state for each client."""
  import jax
  begun = time.perf_counter()
  for start in range(0, num_clients, _BLOCK):
    clients = np.arange(start, min(start + _BLOCK, num_clients))
    states = store.read(clients)
    store.write(clients, jax.tree.map(lambda x: x + 1, states))
  store.flush()
  store.adopt(store.table, 0)
  return time.perf_counter() - begun


def measure(folder: Path, client_state: str) -> dict[str, float]:
  """In a new process: see above."""
  import jax

  from fedjax_sim import data, models
  from fedjax_sim.data import sampling
  from fedjax_sim.experiment.checkpoints import Checkpoints
  from fedjax_sim.experiment.client_checkpoints import RunCheckpoints
  from fedjax_sim.simulation import build as build_lib
  from fedjax_sim.simulation.drive import drive
  federation = data.open_mapped(folder / 'federation')
  model = models.logistic_regression()
  simulation = build_lib.build(
      model, personal(model), federation,
      sampling.uniform(federation.num_clients, COHORT, seed=0), devices=1,
      lanes=1, client_state=client_state)
  initial, filled = simulation.init(folder / 'states'), None
  if client_state == 'stored':
    filled = fill(initial.clients.store, federation.num_clients)
  _ = simulation.program.compiled
  moved = count_bytes()
  seconds, begun = [], time.perf_counter()
  for progress in drive(simulation, initial, ROUNDS):
    jax.block_until_ready(progress.state)
    seconds.append((time.perf_counter() - begun) / len(progress.records[0]))
    begun = time.perf_counter()
  memory, with_files = resident()
  file = folder / 'states' / 'records.bin'
  with Checkpoints(folder / 'checkpoints', keep=1) as saved:
    begun = time.perf_counter()
    RunCheckpoints(checkpoints=saved, folder=folder).save(
        ROUNDS, progress.state)
    checkpoint = time.perf_counter() - begun
  return {
      'clients': federation.num_clients, 'client_state': client_state,
      'round': float(np.median(seconds[1:])), 'groups': len(seconds) - 1,
      'moved': {name: total / ROUNDS for name, total in moved.items()},
      'memory_mib': memory, 'with_files_mib': with_files, 'fill': filled,
      'file': file.stat().st_size if file.exists() else 0,
      'checkpoint': checkpoint}


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--clients', type=int, default=100_000)
  parser.add_argument('--beside', type=int, default=1_000)
  parser.add_argument('--folder', type=Path, help='where files go meanwhile')
  parser.add_argument('--measure', help='used by the script itself')
  arguments = parser.parse_args()
  if arguments.measure:
    result = measure(arguments.folder, arguments.measure)
    (arguments.folder / 'result.json').write_text(json.dumps(result))
    return
  from fedjax_sim.experiment import workdir
  rows = []
  for count, where in ((arguments.beside, 'device'),
                       (arguments.beside, 'stored'),
                       (arguments.clients, 'stored')):
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
      write(Path(folder) / 'federation', count)
      subprocess.run(
          [sys.executable, '-m', 'benchmarks.client_state', '--measure', where,
           '--folder', folder], check=True)
      row = json.loads((Path(folder) / 'result.json').read_text())
    rows.append(row | {'ratio': row['round'] / (rows or [row])[0]['round']})
    print(rows[-1], flush=True)
  with RESULTS.open('a') as file:
    file.write(json.dumps({
        'rows': rows, 'cohort': COHORT, 'rounds': ROUNDS,
        'date': datetime.date.today().isoformat(),
        'environment': workdir.environment()}) + '\n')


if __name__ == '__main__':
  main()

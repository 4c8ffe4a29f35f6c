"""A model of a round's time, for any number of devices.

  python -m benchmarks.scaling --model [AUTHORS.jsonl[.xz]]

A round's time on D devices is taken to be

  max(device, host) where
  device = fixed + per_client * most clients of a device
           + step * contention(D) * most steps of a device + collective(D)
  host   = planning of a round, which overlaps with the device's work

Every piece is measured by itself: `fixed`, `per_client` and `step` by least
squares over rounds of one device that has one core, with different numbers of
clients and steps; contention by two such processes at the same time that know
nothing of each other (and, beyond the cores, by sharing them out); the
collective as a sum of arrays of the model's size over D devices; planning on
the host. What the busiest device is given comes from the plan itself. The model
is then held against whole rounds on 1, 2, 4 and 8 devices, with one core and
with all, and on two processes.

`evaluate` asks it for meshes that are not at hand: the word LSTM of the paper
on accelerators, with cohorts out of 342,477 clients, whose sizes are drawn from
those of the authors in the file (a line for each, with `messages`), scaled to
the mean of Stack Overflow in TensorFlow Federated.

On accelerators the collective takes 2 (D - 1) / D * bytes / bandwidth plus
2 (D - 1) hops of a ring, the least of any algorithm in bytes.

The 2NN, B = 10, E = 1, W = 1; random pixels; sizes log-normal.
"""

import argparse
import datetime
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax

from fedjax_sim import algorithms, data, models
from fedjax_sim.data import sampling
from fedjax_sim.experiment import processes, workdir
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation import plan as plan_lib
from fedjax_sim.simulation.placement import collectives, sharding

RESULTS = Path(__file__).parent / 'results' / 'scaling_model.jsonl'
FIGURE = Path(__file__).parent.parent / 'docs' / 'scaling_model.png'
NUM_CLIENTS, COHORT, BATCH_SIZE, MEAN, SIGMA = 1000, 120, 10, 60, 1.0
REPEATS = 9
CHECKED_ROUNDS = range(1, 28)

# TensorFlow Federated's Stack Overflow: clients, and examples of one.
MANY, MANY_MEAN = 342_477, 135_818_730 / 342_477
# The paper's word LSTM, unrolled over 10 words: 6 operations for each weight in
# a matrix product and word. Assumed, not measured: an accelerator that does
# 10 TFLOP/s of them, and a ring of 50 GB/s with 5 microseconds a hop.
LSTM_BYTES = 4 * 4_950_544
LSTM_STEP = BATCH_SIZE * 10 * 6 * (4 * 256 * 448 + 256 * 10_000) / 10e12
BANDWIDTH, HOP_SECONDS = 50e9, 5e-6


class Pieces(NamedTuple):
  """Measured by themselves; seconds.

  Attributes:
    fixed: of a round, whatever it holds.
    per_client: of a client, beside its steps.
    step: of a local step, on a core while the others idle.
    contention: what a step takes more while all cores work, as a factor.
  """

  fixed: float
  per_client: float
  step: float
  contention: float

  def seconds(self, clients: float, steps: float, devices: int, cores: int,
              collective: float) -> float:
    """Of a round whose busiest device has so many clients and steps."""
    slower = max(1.0, devices / cores)
    if min(devices, cores) > 1:
      slower *= self.contention
    work = self.per_client * clients + self.step * steps
    return self.fixed + slower * work + collective


def client_sizes() -> np.ndarray:
  """int [N], log-normal, mean about MEAN."""
  rng = np.random.default_rng(0)
  sizes = rng.lognormal(np.log(MEAN) - SIGMA ** 2 / 2, SIGMA, NUM_CLIENTS)
  return np.ceil(sizes).astype(int)


def busiest(sizes: np.ndarray, cohort: np.ndarray, devices: int) -> np.ndarray:
  """[2]: clients and steps of the device with most steps, as they are dealt."""
  work = np.sort(-(-sizes[cohort] // BATCH_SIZE))[::-1]
  dealt = plan_lib.deal(work, devices)
  steps = np.bincount(dealt, work, devices)
  return np.array([np.bincount(dealt, minlength=devices)[steps.argmax()],
                   steps.max()])


class Rounds:
  """Rounds of a simulation, of any number of clients, warm."""

  def __init__(self, sizes: np.ndarray, cohort: int, devices: int):
    rng = np.random.default_rng(0)
    total = int(sizes.sum())
    examples = {'x': rng.integers(0, 256, (total, 784), np.uint8),
                'y': rng.integers(0, 10, total, np.int32)}
    parts = np.split(np.arange(total), np.cumsum(sizes)[:-1])
    model = models.mnist_2nn()
    self.simulation = build_lib.build(
        model, algorithms.fedavg(
            model, optax.sgd(0.01), batch_size=BATCH_SIZE),
        data.federate(examples, parts),
        sampling.uniform(len(sizes), cohort, seed=0), devices=devices, lanes=1)
    self._state = self.simulation.init()
    begun = time.perf_counter()
    self._window = self.simulation.window(0, 128)
    self.planning = (time.perf_counter() - begun) / 128
    self.measure(0)

  def shrink(self, points: Sequence[tuple[int, float]]) -> np.ndarray:
    """Makes of round i one with (clients, share of their examples) only.

    Returns:
      [points, 2]: the clients and steps that it has.
    """
    plan = jax.tree.map(np.copy, self._window.plan)
    loads = []
    for i, (clients, share) in enumerate(points):
      some = np.linspace(0, COHORT - 1, clients).astype(int)
      for field in jax.tree.leaves(plan.slots):
        field[i] = np.concatenate(
            [field[i][:, some], np.zeros_like(field[i][:, clients:])], axis=1)
      size = plan.slots.size
      size[i] = np.ceil(share * size[i])
      loads.append([clients, (-(-size[i] // BATCH_SIZE)).sum()])
    self._window = self._window._replace(placed=self.simulation.place(plan))
    return np.array(loads)

  def measure(self, number: int) -> float:
    """Seconds of round `number` of the first window."""
    begun = time.perf_counter()
    self._state, _ = jax.block_until_ready(self.simulation.advance(
        self._state, self._window, [0], number, number + 1))
    return time.perf_counter() - begun


def measure_pieces() -> dict[str, float]:
  """On one device: rounds of different numbers of clients and steps."""
  rounds = Rounds(client_sizes(), COHORT, 1)
  points = [(clients, share) for clients in (2, 15, 40, 80, COHORT)
            for share in (0.1, 0.4, 1.0)]
  loads = rounds.shrink(points)
  seconds = np.median(
      [[rounds.measure(i) for i in range(len(points))]
       for _ in range(REPEATS)], axis=0)
  # Of each point's error the share counts.
  rows = np.column_stack([np.ones(len(points)), loads])
  fixed, per_client, step = np.linalg.lstsq(
      rows / seconds[:, None], np.ones(len(points)), rcond=None)[0]
  return {'fixed': fixed, 'per_client': per_client, 'step': step,
          'planning': rounds.planning}


def measure_rounds(devices: int) -> dict[str, float]:
  """Whole rounds on all devices there are, and a sum over them."""
  rounds = Rounds(client_sizes(), COHORT, devices)
  seconds = [rounds.measure(r) for r in CHECKED_ROUNDS]
  placement = sharding.place(devices)
  params = jax.eval_shape(
      models.mnist_2nn().init, jax.random.key(0), np.zeros((1, 784), np.uint8))
  tree = sharding.to_devices(jax.tree.map(
      lambda x: np.zeros(x.shape, x.dtype), params), placement.everywhere)
  total = sharding.spread(
      collectives.total, placement, in_specs=(placement.everywhere,),
      out_specs=placement.everywhere)
  sums = []
  for _ in range(3 * REPEATS):
    begun = time.perf_counter()
    jax.block_until_ready(total(tree))
    sums.append(time.perf_counter() - begun)
  return {'round': float(np.median(seconds)),
          'collective': float(np.median(sums[1:]))}


def measure_planning(devices: int, cohort: int, sizes: np.ndarray) -> float:
  """Seconds to draw a cohort and to deal it."""
  work = -(-sizes // BATCH_SIZE)
  offsets = np.concatenate([[0], np.cumsum(sizes)])
  sampler = sampling.uniform(len(sizes), cohort, seed=0)
  seconds = []
  for r in range(5):
    begun = time.perf_counter()
    plan_lib.plan_rounds(
        [sampler.sample(r)], [False], work, offsets, lanes=1,
        num_blocks=plan_lib.slots_for(cohort, devices, owned=False),
        num_rounds=1, devices=devices)
    seconds.append(time.perf_counter() - begun)
  return float(np.median(seconds))


def worker(arguments: Sequence[str], cores: Sequence[int], devices: int = 1):
  """Starts this module on some cores, with so many devices."""
  return subprocess.Popen(
      [sys.executable, '-m', 'benchmarks.scaling_model', *arguments],
      stdout=subprocess.PIPE, text=True,
      env=os.environ | {'JAX_NUM_CPU_DEVICES': str(devices)},
      preexec_fn=lambda: os.sched_setaffinity(0, cores))


def result(process: subprocess.Popen) -> dict[str, float]:
  """What a worker prints at its end."""
  output = process.communicate()[0]
  if process.returncode:
    raise RuntimeError('a worker failed')
  return json.loads(output.splitlines()[-1])


def two_processes() -> dict[str, float]:
  """Rounds of two processes, a core each."""
  with tempfile.TemporaryDirectory() as folder:
    out = Path(folder) / 'result'
    os.environ['JAX_NUM_CPU_DEVICES'] = '1'
    code = processes.launch(2, lambda i, coordinator: [
        sys.executable, '-m', 'benchmarks.scaling_model', '--rounds', '2',
        '--join', str(i), coordinator, '--out', str(out)])
    if code:
      raise RuntimeError('two processes failed')
    return json.loads(out.read_text())


def measure() -> dict:
  """All pieces, and whole rounds to hold the model against."""
  cores = sorted(os.sched_getaffinity(0))
  alone = result(worker(['--pieces'], cores[:1]))
  pair = [worker(['--pieces'], [core]) for core in cores[:2]]
  pair = [result(process) for process in pair]
  pieces = Pieces(
      alone['fixed'], alone['per_client'], alone['step'],
      float(np.mean([p['step'] for p in pair]) / alone['step']))
  checks = []
  for count in sorted({1, len(cores)}):
    for devices in (1, 2, 4, 8):
      measured = result(worker(
          ['--rounds', str(devices)], cores[:count], devices))
      checks.append(check(pieces, measured, devices, count))
  checks.append(check(pieces, two_processes(), 2, len(cores))
                | {'processes': 2})
  return {'pieces': pieces._asdict(), 'planning': alone['planning'],
          'checks': checks}


def check(pieces: Pieces, measured: dict[str, float], devices: int,
          cores: int) -> dict:
  """The model beside what was measured, for the same rounds."""
  sampler = sampling.uniform(NUM_CLIENTS, COHORT, seed=0)
  loads = [busiest(client_sizes(), sampler.sample(r), devices)
           for r in CHECKED_ROUNDS]
  predicted = float(np.median([pieces.seconds(
      *load, devices, cores, measured['collective']) for load in loads]))
  line = {'devices': devices, 'cores': cores, **measured,
          'predicted': predicted}
  print(line, flush=True)
  return line


def author_sizes(path: Path) -> np.ndarray:
  """int [342,477], examples of clients like the authors' messages."""
  opener = lzma.open if path.suffix == '.xz' else open
  with opener(path, 'rt') as file:
    counts = np.array([len(json.loads(line)['messages']) for line in file])
  rng = np.random.default_rng(0)
  scaled = counts[rng.integers(0, len(counts), MANY)] * (
      MANY_MEAN / counts.mean())
  return np.ceil(scaled).astype(int)


def evaluate(path: Path) -> list[dict]:
  """The model's time of a round on accelerators, and its parts."""
  sizes = author_sizes(path)
  lines = []
  for cohort in (100, 1_000, 10_000, 34_247, MANY):
    chosen = sampling.uniform(MANY, cohort, seed=0).sample(0)
    for devices in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
      _, steps = busiest(sizes, chosen, devices)
      ring = 2 * (devices - 1)
      collective = ring * HOP_SECONDS + (
          ring / devices * LSTM_BYTES / BANDWIDTH)
      lines.append({
          'cohort': cohort, 'devices': devices,
          'compute': float(steps * LSTM_STEP),
          'collective': collective,
          'planning': measure_planning(devices, cohort, sizes),
          'imbalance': float(steps * devices / np.sum(
              -(-sizes[chosen] // BATCH_SIZE)) - 1)})
      line = lines[-1]
      line['round'] = max(line['compute'] + collective, line['planning'])
      print(line, flush=True)
  return lines


def report(path: Path) -> None:
  """Measures, evaluates, keeps the result and draws it."""
  line = {**measure(), 'evaluated': evaluate(path), 'sizes': path.name,
          'date': datetime.date.today().isoformat(),
          'environment': workdir.environment()}
  with RESULTS.open('a') as file:
    file.write(json.dumps(line) + '\n')
  plot(line)


def plot(line: dict) -> None:
  """The model's curves with what was measured, and beyond."""
  from matplotlib.figure import Figure
  figure = Figure(figsize=(9, 4), layout='constrained')
  left, right = figure.subplots(1, 2)
  for i, cores in enumerate(sorted({c['cores'] for c in line['checks']})):
    own = [c for c in line['checks']
           if c['cores'] == cores and 'processes' not in c]
    devices = [c['devices'] for c in own]
    label = f'{cores} core' + 's' * (cores > 1)
    left.plot(devices, [c['predicted'] for c in own], f'C{i}-',
              label=f'model, {label}')
    left.plot(devices, [c['round'] for c in own], f'C{i}o',
              label=f'measured, {label}')
  for c in line['checks']:
    if 'processes' in c:
      left.plot([2], [c['predicted']], 'C2_', ms=14, label='model, 2 processes')
      left.plot([2], [c['round']], 'C2s', label='measured, 2 processes')
  left.set_xlabel('virtual devices')
  left.set_ylabel('seconds a round, 2NN, 120 clients')
  cohorts = sorted({e['cohort'] for e in line['evaluated']})
  for i, cohort in enumerate(cohorts):
    own = [e for e in line['evaluated'] if e['cohort'] == cohort]
    devices = [e['devices'] for e in own]
    right.loglog(devices, [e['round'] for e in own], f'C{i}o-',
                 label=f'{cohort:,} clients')
    right.loglog(devices, [own[0]['round'] / d for d in devices], f'C{i}:',
                 lw=0.8)
  right.set_xlabel('accelerators (dotted: in proportion)')
  right.set_ylabel('seconds a round, word LSTM, model')
  for axes, ticks in ((left, (1, 2, 4, 8)), (right, (1, 8, 64, 512))):
    axes.set_xscale('log')
    axes.set_xticks(ticks, ticks)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
  left.set_ylim(0)
  figure.savefig(FIGURE, dpi=110)


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('--pieces', action='store_true')
  parser.add_argument('--rounds', type=int)
  parser.add_argument('--join', nargs=2)
  parser.add_argument('--out', type=Path)
  arguments = parser.parse_args()
  if arguments.join:
    processes.join(arguments.join[1], 2, int(arguments.join[0]))
  found = (measure_pieces() if arguments.pieces
           else measure_rounds(arguments.rounds))
  if arguments.out:
    if jax.process_index() == 0:
      arguments.out.write_text(json.dumps(found))
  else:
    print(json.dumps(found))


if __name__ == '__main__':
  main()

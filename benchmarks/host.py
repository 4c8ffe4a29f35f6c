"""How much of a run's time the host takes between rounds.

  python -m benchmarks.host

The 2NN on MNIST as configs/mnist_noniid.py has it, evaluated after every round,
with all that a run does: planning, metrics to a file, a line of progress, a
checkpoint at the end. The program that computes rounds is wrapped to wait for
its result, so nothing the host does is hidden behind it; what is left of the
time from the first dispatch to the last is the host's. Several runs, the
median and the range.

A line goes to benchmarks/results/host.jsonl.
"""

import contextlib
import dataclasses
import datetime
import io
import json
import tempfile
import time
import types
from pathlib import Path

import jax
import numpy as np
import optax

import fedjax_sim
from fedjax_sim import algorithms, data, models
from fedjax_sim.data import partition, sampling
from fedjax_sim.experiment import loop, reporting, workdir
from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.plan import evaluate_after
from fedjax_sim.simulation.simulation import Simulation

RESULTS = Path(__file__).parent / 'results' / 'host.jsonl'
ROUNDS, REPEATS = 200, 5


def share(simulation: Simulation) -> float:
  """The host's part of the time of ROUNDS rounds."""
  device = 0.0

  def waiting(*arguments):
    nonlocal device
    begun = time.perf_counter()
    result = jax.block_until_ready(simulation.program.compiled(*arguments))
    device += time.perf_counter() - begun
    return result

  waited = dataclasses.replace(
      simulation, program=types.SimpleNamespace(compiled=waiting))
  cadence = loop.Cadence(
      ROUNDS, evaluate_after(1, ROUNDS), checkpoint_seconds=30.0)
  with (
      tempfile.TemporaryDirectory() as folder,
      Checkpoints(Path(folder) / 'checkpoints', keep=1) as checkpoints,
      contextlib.closing(reporting.Progress(0, ROUNDS, (0.97,))) as shown,
  ):
    begun = time.perf_counter()
    loop.train(
        waited, simulation.init(), cadence,
        files={0: Path(folder) / loop.METRICS_FILE}, checkpoints=checkpoints,
        traffic=simulation.bytes_per_client(),
        on_progress=lambda progress: shown.update(progress.records[0]))
    return 1 - device / (time.perf_counter() - begun)


def main() -> None:
  fedjax_sim.use_all_cores()
  mnist = data.load('mnist')
  model = models.mnist_2nn()
  parts = partition.shards(mnist.train['y'], 100, 2, seed=0)
  simulation = build_lib.build(
      model, algorithms.fedavg(model, optax.sgd(0.1), batch_size=10),
      data.federate(mnist.train, parts), sampling.uniform(100, 10, seed=0),
      test=mnist.test)
  _ = simulation.program.compiled
  with contextlib.redirect_stdout(io.StringIO()):
    shares = [share(simulation) for _ in range(REPEATS + 1)][1:]
  print(f"the host's share of a round: {np.median(shares):.2%} "
        f'({min(shares):.2%} to {max(shares):.2%})')
  with RESULTS.open('a') as file:
    file.write(json.dumps({
        'shares': shares, 'rounds': ROUNDS,
        'devices': simulation.placement.size, 'lanes': simulation.lanes,
        'date': datetime.date.today().isoformat(),
        'environment': workdir.environment()}) + '\n')


if __name__ == '__main__':
  main()

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
import datetime
import io
import json
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import optax

import fedjax_sim
from fedjax_sim import algorithms, data, models
from fedjax_sim.data import partition, sampling
from fedjax_sim.experiment import loop, workdir
from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.simulation import simulate as simulate_lib
from fedjax_sim.simulation.plan import evaluate_after

RESULTS = Path(__file__).parent / 'results' / 'host.jsonl'
ROUNDS, REPEATS = 200, 5


def share(simulation, program) -> float:
  """The host's part of the time of ROUNDS rounds."""
  device = 0.0

  def waiting(*arguments):
    nonlocal device
    begun = time.perf_counter()
    result = jax.block_until_ready(program(*arguments))
    device += time.perf_counter() - begun
    return result

  cadence = loop.Cadence(
      rounds=ROUNDS, evaluate=evaluate_after(1, ROUNDS),
      rounds_per_dispatch=None, checkpoint_seconds=30.0,
      stop_on_divergence=True, targets=(0.97,))
  state = simulation.init()
  with tempfile.TemporaryDirectory() as folder:
    with Checkpoints(Path(folder) / 'checkpoints', keep=1) as checkpoints:
      begun = time.perf_counter()
      loop.train(
          simulation, waiting, state, cadence, folder=Path(folder),
          checkpoints=checkpoints, bytes_per_client=0)
      return 1 - device / (time.perf_counter() - begun)


def main() -> None:
  fedjax_sim.use_all_cores()
  mnist = data.load('mnist')
  model = models.mnist_2nn()
  parts = partition.shards(mnist.train['y'], 100, 2, seed=0)
  simulation = simulate_lib.build(
      model, algorithms.fedavg(model, optax.sgd(0.1), batch_size=10),
      data.federate(mnist.train, parts), sampling.uniform(100, 10, seed=0),
      test=mnist.test)
  program = simulation.compile(simulation.init())
  with contextlib.redirect_stdout(io.StringIO()):
    shares = [share(simulation, program) for _ in range(REPEATS + 1)][1:]
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

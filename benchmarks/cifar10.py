"""The CIFAR-10 benchmark of pfl-research, with our engine: seconds in all.

  python -m benchmarks.cifar10 [--data-dir DIR] [--rounds 1500] [--out FILE]

1,000 clients of 50 images, 50 a round, E = 1, B = 10, rate 0.1, a CNN of
conv3x3-32, conv3x3-64 (VALID), max-pooling 2, dropout 0.25, dense 128, dropout
0.5, dense 10; evaluation on the 10,000 test images after every 10 rounds.
Granqvist et al., "pfl-research" (2024), table 1: 1,500 rounds.

DIR holds the original binary files (data_batch_1.bin to 5, test_batch.bin).
Without it pixels and labels are random: the time is the same, and the accuracy
is chance. Compiling is not in the time.

A line goes to benchmarks/results/cifar10.jsonl, or to FILE.
"""

import argparse
import datetime
import json
import time
from pathlib import Path

import numpy as np
import optax
from flax import linen as nn

import fedjax_sim
from fedjax_sim import algorithms, data, models
from fedjax_sim.core import products
from fedjax_sim.data import partition, sampling
from fedjax_sim.experiment import workdir
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.plan import evaluate_after

RESULTS = Path(__file__).parent / 'results' / 'cifar10.jsonl'
CLIENTS, EXAMPLES, COHORT = 1000, 50, 50


class Net(nn.Module):
  """pfl-research's `simple_cnn`."""

  @nn.compact
  def __call__(self, x, train: bool):
    for features in (32, 64):
      x = nn.relu(nn.Conv(
          features, (3, 3), padding='VALID',
          conv_general_dilated=models.conv_general_dilated)(x))
    x = models.max_pool(x, (2, 2), (2, 2))
    x = nn.Dropout(0.25, deterministic=not train)(x)
    x = nn.relu(nn.Dense(128)(x.reshape(len(x), -1)))
    x = nn.Dropout(0.5, deterministic=not train)(x)
    return nn.Dense(10)(x)


def random_images(seed: int, size: int) -> dict[str, np.ndarray]:
  """As many images and labels, of no meaning."""
  rng = np.random.default_rng(seed)
  return {'x': rng.integers(0, 256, (size, 32, 32, 3), np.uint8),
          'y': rng.integers(0, 10, size, np.int32)}


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--data-dir', type=Path)
  parser.add_argument('--rounds', type=int, default=1500)
  parser.add_argument('--devices', type=int, default=0, help='0: auto')
  parser.add_argument('--lanes', type=int, default=0, help='0: auto')
  parser.add_argument('--precision', default='auto', choices=products.CHOICES)
  parser.add_argument('--out', type=Path, default=RESULTS)
  arguments = parser.parse_args()
  fedjax_sim.use_all_cores()
  if arguments.data_dir:
    dataset = data.load('cifar10', arguments.data_dir)
    train, test = dataset.train, dataset.test
  else:
    train, test = random_images(0, 50_000), random_images(1, 10_000)
  model = models.from_linen(Net())
  parts = [part[:EXAMPLES] for part in partition.iid(
      len(train['y']), CLIENTS, seed=0)]
  simulation = build_lib.build(
      model, algorithms.fedavg(model, optax.sgd(0.1), batch_size=10),
      data.federate(train, parts), sampling.uniform(CLIENTS, COHORT, seed=0),
      test=test, devices=arguments.devices or 'auto',
      lanes=arguments.lanes or 'auto', precision=arguments.precision)
  state = simulation.init()
  _ = simulation.program.compiled  # Not timed.
  begun, records = time.perf_counter(), []
  for progress in drive(
      simulation, state, arguments.rounds,
      evaluate=evaluate_after(10, arguments.rounds)):
    records += progress.records[0]
  seconds = time.perf_counter() - begun
  print(f'{arguments.rounds} rounds in {seconds:.1f} s, test accuracy '
        f'{records[-1]["test/accuracy"]:.4f}')
  with arguments.out.open('a') as file:
    file.write(json.dumps({
        'rounds': arguments.rounds, 'seconds': seconds,
        'accuracy': records[-1]['test/accuracy'],
        'real_images': bool(arguments.data_dir),
        'devices': simulation.placement.size, 'lanes': simulation.lanes,
        'precision': simulation.placement.precision,
        'date': datetime.date.today().isoformat(),
        'environment': workdir.environment()}) + '\n')


if __name__ == '__main__':
  main()

"""What a model of one's own costs that says nothing of fast convolutions.

  python -m benchmarks.own_convolution [--turns 5]

Two convolutions on 32x32x3 (32 and 64 channels, 3x3), each with ReLU and
max-pooling 2x2, a dense layer; FedAvg, 10 clients of 50, E = 1, B = 10, one
device, one lane. Contenders take turns, the median of their seconds a round:

  plain   flax's `nn.Conv` and `nn.max_pool`
  hand    `conv_general_dilated=fs.models.conv_general_dilated` and
          `fs.models.max_pool`
  opted   as 'plain', with `fast_convolutions=False`

A line goes to benchmarks/results/own_convolution.jsonl.
"""

import argparse
import datetime
import json
import time
from pathlib import Path

import jax
import numpy as np
import optax
from flax import linen as nn

import fedjax_sim as fs
from fedjax_sim import models
from fedjax_sim.data import federated, sampling
from fedjax_sim.experiment import workdir
from fedjax_sim.simulation import build

RESULTS = Path(__file__).parent / 'results' / 'own_convolution.jsonl'
CLIENTS, EXAMPLES = 10, 50


class Plain(nn.Module):
  """As one writes it."""

  @nn.compact
  def __call__(self, x):
    for features in (32, 64):
      x = nn.relu(nn.Conv(features, (3, 3))(x))
      x = nn.max_pool(x, (2, 2), (2, 2))
    return nn.Dense(10)(x.reshape(x.shape[0], -1))


class Hand(nn.Module):
  """The same, with the fast forms named."""

  @nn.compact
  def __call__(self, x):
    for features in (32, 64):
      x = nn.relu(nn.Conv(
          features, (3, 3),
          conv_general_dilated=models.conv_general_dilated)(x))
      x = models.max_pool(x, (2, 2), (2, 2))
    return nn.Dense(10)(x.reshape(x.shape[0], -1))


CONTENDERS = {
    'plain': lambda: models.from_linen(Plain()),
    'hand': lambda: models.from_linen(Hand(), fast_convolutions=False),
    'opted': lambda: models.from_linen(Plain(), fast_convolutions=False),
}


def contender(name: str):
  """A function that runs a round and returns its seconds."""
  rng = np.random.default_rng(0)
  train = federated.from_clients([
      {'x': rng.normal(size=(EXAMPLES, 32, 32, 3)).astype(np.float32),
       'y': rng.integers(0, 10, EXAMPLES)} for _ in range(CLIENTS)])
  model = CONTENDERS[name]()
  simulation = build.build(
      model, fs.algorithms.fedavg(
          model, batch_size=10, client_optimizer=optax.sgd(0.01)),
      train, sampling.uniform(CLIENTS, CLIENTS, 0), devices=1, lanes=1)
  state = simulation.init_on_devices()
  window = simulation.window(0, 1)
  plan = simulation.place(window.plan)

  def round_seconds():
    nonlocal state
    begun = time.perf_counter()
    state, _ = jax.block_until_ready(
        simulation.call(window.examples, state, plan, 0, 1))
    return time.perf_counter() - begun

  round_seconds()  # Compiles.
  return round_seconds


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--turns', type=int, default=5)
  turns = parser.parse_args().turns
  rounds = {name: contender(name) for name in CONTENDERS}
  seconds = {name: [] for name in rounds}
  for _ in range(turns):
    for name, run in rounds.items():
      seconds[name].append(run())
  medians = {name: float(np.median(s)) for name, s in seconds.items()}
  line = {
      'seconds': medians,
      'plain_to_hand': float(np.median(
          np.divide(seconds['plain'], seconds['hand']))),
      'opted_to_plain': float(np.median(
          np.divide(seconds['opted'], seconds['plain']))),
      'turns': turns, 'date': datetime.date.today().isoformat(),
      'environment': workdir.environment()}
  print(json.dumps({k: v for k, v in line.items() if k != 'environment'}))
  with RESULTS.open('a') as file:
    file.write(json.dumps(line) + '\n')


if __name__ == '__main__':
  main()

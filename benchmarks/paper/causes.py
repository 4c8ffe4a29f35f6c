"""Why our rounds to target are fewer than the paper's: two cells, other ways.

  python -m benchmarks.paper.causes

Table 4's cells E = 1, B = 10 (2NN, C = 0.1, 97%; the paper has 92 rounds IID,
831 non-IID, and in table 1 for the same cells 87 and 664) with other initial
weights, other scales of pixels, and evaluations that are further apart: where
accuracy jumps from round to round, fewer looks find its peaks later. Seeds
0, 1, 2; for each way the rates of a grid of 10^(1/3), all side by side.

A line a way goes to benchmarks/results/paper/causes.jsonl; ways that the file
has already are left out.
"""

import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import linen as nn
from jax import numpy as jnp
from jax.nn import initializers

import fedjax_sim
from benchmarks.paper import results
from fedjax_sim import algorithms, data, models
from fedjax_sim.core import compilation, types
from fedjax_sim.data import partition
from fedjax_sim.experiment import metrics, workdir
from fedjax_sim.models import adapters, losses
from fedjax_sim.simulation import sweep as sweep_lib
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.sweep_runs import SweepRuns

RESULTS = Path(__file__).parents[1] / 'results' / 'paper' / 'causes.jsonl'
TARGET, SEEDS = 0.97, (0, 1, 2)


class Net(nn.Module):
  """The 2NN with any initial weights and biases."""

  kernel_init: initializers.Initializer
  bias: float

  @nn.compact
  def __call__(self, x):
    x = x.reshape(x.shape[0], -1)
    for i, width in enumerate((200, 200, 10)):
      x = nn.Dense(width, kernel_init=self.kernel_init,
                   bias_init=initializers.constant(self.bias))(
                       nn.relu(x) if i else x)
    return x


def net(kernel_init=None, bias=0.0, preprocess=adapters.as_float):
  """A variant of the 2NN."""
  return models.from_linen(
      Net(kernel_init or initializers.glorot_uniform(), bias),
      loss=losses.cross_entropy, preprocess=preprocess)


def scaled(low: float, high: float):
  """Pixels from `low` to `high`."""
  return lambda x: low + (high - low) / 255 * x.astype(jnp.float32)


class Way(NamedTuple):
  """One line.

  Attributes:
    clients: 'IID' or 'non-IID'.
    name: of the way.
    model: builds it.
    sixths: rates, as sixths of a power of ten.
    unit: what rates are multiplied by.
    limit: rounds after which a rate is given up.
    every: rounds between evaluations; crossings are found for each.
  """

  clients: str
  name: str
  model: Callable[[], types.Model]
  sixths: tuple[int, ...] = (-10, -8, -6, -4, -2)
  unit: float = 1.0
  limit: int = 160
  every: tuple[int, ...] = (1,)

  @property
  def rates(self) -> tuple[float, ...]:
    return tuple(10 ** (k / 6) * self.unit for k in self.sixths)


_early_tensorflow = initializers.truncated_normal(0.1)
_apart = {'limit': 1000, 'every': (1, 10, 20, 50)}
# What TensorFlow's tutorials and defaults had in 2015 and 2016.
WAYS = (
    Way('IID', 'Glorot-uniform, pixels 0 to 1 (ours)', lambda: net()),
    Way('IID', 'uniform, variance 1 / inputs',
        lambda: net(initializers.lecun_uniform())),
    Way('IID', 'truncated normal, deviation 1 / sqrt(inputs)', lambda: net(
        initializers.variance_scaling(1.0, 'fan_in', 'truncated_normal'))),
    Way('IID', 'truncated normal, deviation 0.1, biases 0.1',
        lambda: net(_early_tensorflow, 0.1)),
    Way('IID', 'normal, deviation 0.01',
        lambda: net(initializers.normal(0.01))),
    Way('IID', 'pixels -0.5 to 0.5',
        lambda: net(preprocess=scaled(-0.5, 0.5))),
    Way('IID', 'pixels -1 to 1', lambda: net(preprocess=scaled(-1, 1))),
    Way('IID', 'pixels standardized', lambda: net(
        preprocess=adapters.standardized(0.1307, 0.3081))),
    # Pixels 255 times as large want rates 255^2 times as small.
    Way('IID', 'pixels 0 to 255', lambda: net(preprocess=scaled(0, 255)),
        unit=1 / 255 ** 2),
    Way('non-IID', 'Glorot-uniform, pixels 0 to 1 (ours)', lambda: net(),
        (-6, -4, -2), **_apart),
    Way('non-IID', 'pixels -0.5 to 0.5',
        lambda: net(preprocess=scaled(-0.5, 0.5)), (-8, -6, -4), **_apart),
    Way('non-IID', 'pixels -0.5 to 0.5, truncated normal, deviation 0.1, '
        'biases 0.1', lambda: net(
            _early_tensorflow, 0.1, preprocess=scaled(-0.5, 0.5)),
        (-8, -6, -4), **_apart),
)


def measure(way: Way) -> dict[int, dict[str, list[float | None]]]:
  """Rounds between evaluations -> rate -> each seed's crossing."""
  mnist = data.load('mnist')
  law = {'IID': lambda seed: partition.iid(60_000, 100, seed=seed),
         'non-IID': lambda seed: partition.shards(
             mnist.train['y'], 100, 2, seed=seed)}[way.clients]
  federations = [data.federate(mnist.train, law(seed)) for seed in SEEDS]
  model = way.model()
  members = [sweep_lib.Member(seed, {'rate': rate}, i)
             for rate in way.rates for i, seed in enumerate(SEEDS)]
  sweep = sweep_lib.build(
      model, lambda rate: algorithms.fedavg(
          model, optax.sgd(rate), batch_size=10), federations,
      cohort_size=10, num_members=len(members), example=members[0][1],
      test=mnist.test)
  curves, active = [[] for _ in members], set(range(len(members)))
  for progress in drive(
      SweepRuns(sweep=sweep, members=members), sweep.init(members), way.limit,
      active=active):
    for i, records in progress.records.items():
      curves[i] += [record['test/accuracy'] for record in records]
      # Fewer looks may have met a peak that lies between the others'.
      if None not in [crossing(curves[i], every) for every in way.every]:
        active.discard(i)
  return {every: {
      f'{rate:.4g}': [crossing(c, every) for c in curves[3 * k:3 * k + 3]]
      for k, rate in enumerate(way.rates)} for every in way.every}


def crossing(curve: Sequence[float], every: int) -> float | None:
  """Rounds to the target, of evaluations in rounds every, 2 every, ..."""
  looks = curve[every - 1::every]
  return metrics.rounds_to_target(
      every * np.arange(1, len(looks) + 1), looks, TARGET) if looks else None


def line(way: Way, found: dict[int, dict[str, list]]) -> dict[str, Any]:
  """The record of a way."""
  best = {every: min(rates, key=lambda r, rates=rates: results.median(rates[r]))
          for every, rates in found.items()}
  medians = {every: results.median(found[every][rate])
             for every, rate in best.items()}
  plain = {every: None if np.isinf(m) else m for every, m in medians.items()}
  return {
      'clients': way.clients, 'way': way.name, 'crossings': found[1],
      'best_rate': best[1], 'median': plain[1],
      'evaluated_every': {every: {
          'best_rate': best[every], 'median': plain[every],
          'crossings': found[every][best[every]]} for every in way.every},
      'seeds': SEEDS, 'limit': way.limit,
      'date': datetime.date.today().isoformat(),
      'environment': workdir.environment()}


def main() -> None:
  fedjax_sim.use_all_cores()
  compilation.keep_programs()
  lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
  known = {(x['clients'], x['way']) for x in map(json.loads, lines)}
  for way in [way for way in WAYS if (way.clients, way.name) not in known]:
    record = line(way, measure(way))
    print(way.clients, way.name, record['evaluated_every'], flush=True)
    with RESULTS.open('a') as file:
      file.write(json.dumps(record) + '\n')
    jax.clear_caches()


if __name__ == '__main__':
  main()

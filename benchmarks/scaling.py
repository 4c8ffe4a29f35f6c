"""What a round costs against M, n, E, B, W and the size of the model.

  python -m benchmarks.scaling            measure, and draw docs/scaling.png
  python -m benchmarks.scaling --plot     draw it from the committed result
  python -m benchmarks.scaling --model AUTHORS.jsonl[.xz]
                                          a model of the time on many devices,
                                          see benchmarks/scaling_model.py

Around one point (M = 10 clients of n = 200 examples, E = 1, B = 10, W = 4, a
2NN of 200 hidden units; random pixels) one quantity at a time is changed. All
points are measured in turns, several times over; told is the time of a round
over that of the base point, the median. The dashed line is proportional cost.

Results go to benchmarks/results/scaling.jsonl.
"""

import argparse
import datetime
import json
import time
from pathlib import Path

import jax
import numpy as np
import optax

from benchmarks import scaling_model
from fedjax_sim import algorithms, data, models
from fedjax_sim.data import sampling
from fedjax_sim.experiment import workdir
from fedjax_sim.simulation import build as build_lib

RESULTS = Path(__file__).parent / 'results' / 'scaling.jsonl'
FIGURE = Path(__file__).parent.parent / 'docs' / 'scaling.png'
REPEATS, NUM_CLIENTS = 7, 1000

BASE = {'M': 10, 'n': 200, 'E': 1, 'B': 10, 'W': 4, 'hidden': 200}
VALUES = {
    'M': (1, 2, 5, 10, 20, 50, 100),
    'n': (20, 50, 100, 200, 500, 1000),
    'E': (1, 2, 5, 10),
    'B': (1, 2, 5, 10, 20, 50, 200),
    'W': (1, 2, 4, 5, 10),
    'hidden': (25, 50, 100, 200, 400, 800),
}
# Time of a round, where work alone counts: with B, the number of steps.
TITLES = {
    'M': 'clients a round, M', 'n': 'examples a client, n',
    'E': 'local epochs, E', 'B': 'batch size, B', 'W': 'lanes, W',
    'hidden': 'hidden units'}


class Point:
  """A simulation at one point, warm."""

  def __init__(self, M, n, E, B, W, hidden):
    rng = np.random.default_rng(0)
    total = NUM_CLIENTS * n if n <= 200 else 100 * n
    x = rng.integers(0, 256, (total, 784), np.uint8)
    y = rng.integers(0, 10, total, np.int32)
    parts = np.split(np.arange(total), total // n)
    model = models.from_linen(models.dense.Dense(
        (hidden, hidden, 10), jax.nn.initializers.glorot_uniform()))
    self._simulation = build_lib.build(
        model,
        algorithms.fedavg(model, optax.sgd(0.01), epochs=E, batch_size=B),
        data.federate({'x': x, 'y': y}, parts),
        sampling.uniform(len(parts), M, seed=0), lanes=W)
    self._state = self._simulation.init()
    self._window = self._simulation.window(0, 1)
    self.measure()

  def measure(self) -> float:
    """Seconds of a round."""
    begun = time.perf_counter()
    self._state, _ = jax.block_until_ready(self._simulation.advance(
        self._state, self._window, [0], 0, 1))
    return time.perf_counter() - begun


def measure() -> dict[str, list[tuple[int, float]]]:
  """Relative time of a round, by quantity and value."""
  result = {}
  base = Point(**BASE)
  for name, values in VALUES.items():
    points = [Point(**{**BASE, name: value}) for value in values]
    times = np.array([[base.measure()] + [p.measure() for p in points]
                      for _ in range(REPEATS)])
    ratios = np.median(times[:, 1:] / times[:, :1], axis=0)
    result[name] = list(zip(values, ratios.tolist(), strict=True))
    print(name, ', '.join(f'{v}: {r:.2f}' for v, r in result[name]), flush=True)
  return result


def plot(result: dict, title: str) -> None:
  """A panel for each quantity."""
  from matplotlib.figure import Figure
  figure = Figure(figsize=(9, 5.5), layout='constrained')
  for axes, (name, points) in zip(
      figure.subplots(2, 3).flat, result.items(), strict=True):
    values, ratios = map(np.array, zip(*points, strict=True))
    axes.loglog(values, ratios, 'o-')
    if name in ('B', 'W'):
      axes.set_yscale('linear')
      axes.set_ylim(0)
    else:
      axes.loglog(values, values / BASE[name], 'k--', lw=0.8)
    axes.set_xlabel(TITLES[name])
    axes.set_ylabel('times the base point')
    axes.set_xticks(values, values)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
  figure.suptitle(title)
  figure.savefig(FIGURE, dpi=110)


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--plot', action='store_true')
  parser.add_argument('--model', type=Path)
  arguments = parser.parse_args()
  if arguments.model:
    scaling_model.report(arguments.model)
    return
  if not arguments.plot:
    line = {'ratios': measure(), 'base': BASE,
            'date': datetime.date.today().isoformat(),
            'environment': workdir.environment()}
    with RESULTS.open('a') as file:
      file.write(json.dumps(line) + '\n')
  last = json.loads(RESULTS.read_text().splitlines()[-1])
  plot(last['ratios'], 'Time of a round over that of the base point, '
       + last['environment']['machine'])


if __name__ == '__main__':
  main()

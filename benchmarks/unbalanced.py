"""What clients of very different sizes cost: padded steps, and time.

  python -m benchmarks.unbalanced ROLES.jsonl[.xz]

Sizes are those of Shakespeare's speaking roles (a JSON line a role, with its
`lines`): roles of more than two lines, 80% of the lines for training, 10% of
the roles a round, B = 10. The model is the 2NN on random pixels, whose time
doesn't depend on what it learns. For each number of lanes W:

  padded   share of computed steps that are padding, over 200 rounds
  time     seconds a local step, over that of equally many clients of one size
           with as many steps in all; both in turns, the median of several

Results go to benchmarks/results/unbalanced.jsonl.
"""

import argparse
import datetime
import json
import lzma
import time
from pathlib import Path

import jax
import numpy as np
import optax

from fedjax_sim import algorithms, data, models
from fedjax_sim.data import sampling
from fedjax_sim.experiment import workdir
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation import plan as plan_lib

RESULTS = Path(__file__).parent / 'results' / 'unbalanced.jsonl'
BATCH_SIZE, PADDED_ROUNDS, TIMED_ROUNDS, REPEATS = 10, 200, 3, 5


def role_sizes(path: Path) -> np.ndarray:
  """Training lines of every role that has more than two lines."""
  opener = lzma.open if path.suffix == '.xz' else open
  with opener(path, 'rt') as file:
    counts = np.array([len(json.loads(line)['lines']) for line in file])
  counts = counts[counts > 2]
  return counts - np.maximum(counts // 5, 1)


def simulation(sizes: np.ndarray, cohort: int, lanes: int):
  """The 2NN on random pixels, with clients of these sizes."""
  rng = np.random.default_rng(0)
  total = int(sizes.sum())
  x = rng.integers(0, 256, (total, 784), np.uint8)
  y = rng.integers(0, 10, total, np.int32)
  parts = np.split(np.arange(total), np.cumsum(sizes)[:-1])
  model = models.mnist_2nn()
  return build_lib.build(
      model, algorithms.fedavg(model, optax.sgd(0.01), batch_size=BATCH_SIZE),
      data.federate({'x': x, 'y': y}, parts),
      sampling.uniform(len(sizes), cohort, seed=0), lanes=lanes)


def padded_share(simulation) -> float:
  """Over the first 200 rounds, of all steps that are computed."""
  steps = simulation.local_steps
  shares, real = [], []
  for start in range(0, PADDED_ROUNDS, 100):
    plan = simulation.plan(start, [False] * 100)
    shares.append(plan_lib.padded_share(plan, steps)[:100])
    real.append(np.where(plan.slots.present, steps[plan.slots.client], 0).sum(
        axis=(1, 2, 3))[:100])
  shares, real = np.concatenate(shares), np.concatenate(real)
  return 1 - real.sum() / (real / (1 - shares)).sum()


class Timer:
  """Seconds a local step of a simulation, round after round."""

  def __init__(self, simulation):
    self._simulation, self._state = simulation, simulation.init()
    self._window = simulation.window(0, 100)
    steps, plan = simulation.local_steps, self._window.plan
    self._steps = np.where(plan.slots.present, steps[plan.slots.client], 0).sum(
        axis=(1, 2, 3))
    self.measure()  # Warm.

  def measure(self) -> float:
    """Of the same rounds each time."""
    begun = time.perf_counter()
    self._state, _ = jax.block_until_ready(self._simulation.advance(
        self._state, self._window, [0], 0, TIMED_ROUNDS))
    seconds = time.perf_counter() - begun
    return seconds / self._steps[:TIMED_ROUNDS].sum()


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('roles', type=Path)
  parser.add_argument('--lanes', default='1,4,8,16')
  arguments = parser.parse_args()
  sizes = role_sizes(arguments.roles)
  cohort = sampling.cohort_size(len(sizes), client_fraction=0.1)
  # Clients of one size whose steps are the mean of the roles' steps.
  mean_steps = round(np.mean(-(-sizes // BATCH_SIZE)))
  equal = np.full(len(sizes), mean_steps * BATCH_SIZE)
  rows = []
  for lanes in map(int, arguments.lanes.split(',')):
    uneven = simulation(sizes, cohort, lanes)
    timers = Timer(uneven), Timer(simulation(equal, cohort, lanes))
    times = np.array([[t.measure() for t in timers] for _ in range(REPEATS)])
    ratios = times[:, 0] / times[:, 1]
    rows.append({
        'lanes': lanes, 'padded': padded_share(uneven),
        'time_ratio': float(np.median(ratios)),
        'time_ratio_range': [float(ratios.min()), float(ratios.max())]})
    print(f'W = {lanes:3}: padded {rows[-1]["padded"]:.1%}, time a step '
          f'{rows[-1]["time_ratio"]:.2f} times that of equal clients')
  result = {
      'roles': len(sizes), 'cohort': cohort, 'rows': rows,
      'date': datetime.date.today().isoformat(),
      'environment': workdir.environment()}
  RESULTS.parent.mkdir(exist_ok=True)
  with RESULTS.open('a') as file:
    file.write(json.dumps(result) + '\n')


if __name__ == '__main__':
  main()

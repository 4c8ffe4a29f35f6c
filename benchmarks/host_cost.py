"""What simulated time costs the host, as a share of a run.

  python -m benchmarks.host_cost [--rounds 500] [--clients 10000]

MNIST dealt to 10,000 clients, 100 reports a round with 1.3 times as many
clients chosen, the 2NN, B = 10, E = 1, evaluated every ten rounds. A round is
short, as clients have six examples each: the host's share is as large as it
gets. For each population of devices rounds are driven as `simulate` does.
Meanwhile the time is counted that is spent

  time      in what rounds in time need: who is eligible, who is chosen, who
            reports and when, and what the record says of it
  planning  in all of planning: this, the dealing of cohorts to lanes, and the
            plan's way to the devices

A share is that over the wall time of the rounds; what compiles is compiled
before. Planning is done while the devices compute, so it need not lengthen a
run by that much.

A line for each population goes to benchmarks/results/host_cost.jsonl.
"""

import argparse
import contextlib
import datetime
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optax

import fedjax_sim
from fedjax_sim import algorithms, data, models, systems
from fedjax_sim.data import partition, sampling
from fedjax_sim.experiment import workdir
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation import in_time
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.simulation import Simulation
from fedjax_sim.systems.timeline import Timeline

RESULTS = Path(__file__).parent / 'results' / 'host_cost.jsonl'
COHORT, OVER_SELECTION = 100, 1.3
POPULATIONS = {
    'lognormal': lambda: systems.lognormal(
        speed_ratio=100.0, failures=systems.failures(training=0.05)),
    'phones': lambda: systems.phones(failures=systems.failures(training=0.05)),
    'phones, at night': lambda: systems.phones(
        available=systems.all_of(
            systems.nights(zones=[-8, 0, 8]), systems.sporadic(0.8))),
}
# The functions that are counted.
TIME = [(Timeline, 'round'), (in_time, 'outcomes'), (in_time, 'fields')]
PLANNING = [*TIME, (Simulation, 'window')]


class Stopwatch:
  """Adds up the time of functions, of which one may call another.

  Attributes:
    seconds: so far.
  """

  def __init__(self):
    self.seconds, self._depth = 0.0, 0

  def counting(self, function: Callable) -> Callable:
    """The function, whose time is added if none of them is running."""
    def run(*args, **kwargs):
      begun, self._depth = time.perf_counter(), self._depth + 1
      try:
        return function(*args, **kwargs)
      finally:
        self._depth -= 1
        if not self._depth:
          self.seconds += time.perf_counter() - begun
    return run


@contextlib.contextmanager
def counted(functions: list[tuple[Any, str]]) -> Iterator[Stopwatch]:
  """Counts the time of functions, given as (owner, name)."""
  watch, before = Stopwatch(), [getattr(*one) for one in functions]
  for (owner, name), function in zip(functions, before, strict=True):
    setattr(owner, name, watch.counting(function))
  try:
    yield watch
  finally:
    for (owner, name), function in zip(functions, before, strict=True):
      setattr(owner, name, function)


def simulation(population: str, clients: int) -> Simulation:
  """What is run."""
  mnist, model = data.load('mnist'), models.mnist_2nn()
  parts = partition.iid(len(mnist.train['y']), clients, seed=0)
  rule = systems.window(over_selection=OVER_SELECTION)
  return build_lib.build(
      model, algorithms.fedavg(model, optax.sgd(0.1), batch_size=10),
      data.federate(mnist.train, parts),
      sampling.uniform(clients, COHORT, seed=0), test=mnist.test,
      systems=in_time.Systems(POPULATIONS[population](), rule))


def measure(one: Simulation, rounds: int) -> dict[str, float]:
  """Seconds of a run's rounds, and of what is counted in them."""
  state = one.init()
  with counted(TIME) as of_time, counted(PLANNING) as of_planning:
    begun = time.perf_counter()
    for _ in drive(
        one, state, rounds, evaluate=lambda r: (r + 1) % 10 == 0):
      pass
    wall = time.perf_counter() - begun
  return {'rounds': rounds, 'wall_seconds': wall,
          'time_seconds': of_time.seconds,
          'planning_seconds': of_planning.seconds}


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--rounds', type=int, default=500)
  parser.add_argument('--clients', type=int, default=10_000)
  arguments = parser.parse_args()
  fedjax_sim.use_all_cores()
  for population in POPULATIONS:
    one = simulation(population, arguments.clients)
    _ = one.program.compiled
    found = measure(one, arguments.rounds)
    shares = {name: found[f'{name}_seconds'] / found['wall_seconds']
              for name in ('time', 'planning')}
    each = 1e3 * found['wall_seconds'] / found['rounds']
    print(f'{population}: {each:.2f} ms a round; simulated time '
          f'{shares["time"]:.2%}, planning {shares["planning"]:.2%}')
    with RESULTS.open('a') as file:
      file.write(json.dumps({
          'population': population, 'clients': arguments.clients, **found,
          **{f'{name}_share': float(np.round(x, 6))
             for name, x in shares.items()},
          'devices': one.placement.size, 'lanes': one.lanes,
          'date': datetime.date.today().isoformat(),
          'environment': workdir.environment()}) + '\n')


if __name__ == '__main__':
  main()

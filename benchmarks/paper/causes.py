"""Why our rounds to target are fewer than the paper's: two cells, other ways.

  python -m benchmarks.paper.causes [--budget-minutes 30]

Table 4's cells E = 1, B = 10 (2NN, C = 0.1, 97%; the paper has 92 rounds IID,
831 non-IID, and in table 1 for the same cells 87 and 664) in the ways of
`ways.py`, and with the curves read in those of `readings.py`. Seeds and rates
of a way run side by side.

A line a way goes to benchmarks/results/paper/causes.jsonl; ways that the file
has already are left out, so that the same command goes on.
"""

import argparse
import datetime
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import fedjax_sim
from benchmarks.paper import readings, results, way_parts, ways
from benchmarks.paper.ways import Way
from fedjax_sim import data
from fedjax_sim.core import compilation
from fedjax_sim.experiment import workdir
from fedjax_sim.simulation import sweep as sweep_lib
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.sweep_runs import SweepRuns

RESULTS = Path(__file__).parents[1] / 'results' / 'paper' / 'causes.jsonl'

# Reading -> rate -> each seed's crossing.
Found = dict[str, dict[str, list[float | None]]]


def measure(way: Way) -> tuple[Found, dict[str, list[float]]]:
  """Trains all members of a way; also rate -> each seed's best accuracy."""
  mnist = data.load('mnist')
  sweep, members = _sweep(way, mnist)
  curves, active = [[] for _ in members], set(range(len(members)))
  for progress in drive(
      SweepRuns(sweep=sweep, members=members), sweep.init(members), way.limit,
      active=active):
    for i, records in progress.records.items():
      curves[i] += [record['test/accuracy'] for record in records]
      # Another reading may have met a peak later than the plain one.
      if None not in [readings.READINGS[name](curves[i]) for name in way.read]:
        active.discard(i)
    active.difference_update(progress.diverged, _beaten(way, curves))
  own = dict(zip((f'{rate:.4g}' for rate in way.rates),
                 _by_rate(way, curves), strict=True))
  found = {name: {rate: list(map(readings.READINGS[name], curves))
                  for rate, curves in own.items()} for name in way.read}
  return found, {rate: [max(c, default=0.0) for c in curves]
                 for rate, curves in own.items()}


def _by_rate(way: Way, values: list) -> list[list]:
  """Those of the seeds of each rate."""
  return [values[i:i + len(way.seeds)]
          for i in range(0, len(values), len(way.seeds))]


def _beaten(way: Way, curves: list[list[float]]) -> set[int]:
  """The members of rates that can't be the best any more in any reading."""
  beaten = set(range(len(curves)))
  for name in way.read:
    medians = [results.median(list(map(readings.READINGS[name], own)))
               for own in _by_rate(way, curves)]
    best = min(medians)
    beaten &= {i for i, curve in enumerate(curves) if len(curve) >= best
               and medians[i // len(way.seeds)] > best}
  return beaten


def _sweep(way: Way, mnist) -> tuple[sweep_lib.Sweep, list[sweep_lib.Member]]:
  """All rates of a way with all its seeds."""
  deal = way.deal or {
      'IID': way_parts.iid, 'non-IID': way_parts.shards}[way.clients]
  labels = np.asarray(mnist.train['y'])
  federations = [
      data.federate(mnist.train, deal(
          labels, seed if way.deal_seed is None else way.deal_seed))
      for seed in way.seeds]
  model = way.model()
  members = [sweep_lib.Member(seed, {'rate': rate}, i)
             for rate in way.rates for i, seed in enumerate(way.seeds)]
  return sweep_lib.build(
      model, lambda rate: way.make(model, rate), federations,
      cohort_size=way_parts.COHORT, num_members=len(members),
      example=members[0].hyperparameters, make_sampler=way.sampler,
      test=mnist.test), members


def line(
    way: Way, found: Found, accuracy: dict[str, list[float]]
) -> dict[str, Any]:
  """The record of a way."""
  read = {}
  for name, rates in found.items():
    best = min(rates, key=lambda r, rates=rates: results.median(rates[r]))
    median = results.median(rates[best])
    read[name] = {'best_rate': best, 'crossings': rates,
                  'median': None if np.isinf(median) else median}
  return {
      'clients': way.clients, 'way': way.name, **read[readings.PLAIN],
      'readings': read, 'best_accuracy': accuracy,
      'seeds': list(way.seeds), 'limit': way.limit,
      'date': datetime.date.today().isoformat(),
      'environment': workdir.environment()}


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('--budget-minutes', type=float, default=float('inf'),
                      help='begin no further way after so long')
  end = time.monotonic() + 60 * parser.parse_args().budget_minutes
  fedjax_sim.use_all_cores()
  compilation.keep_programs()
  lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
  known = {(x['clients'], x['way']) for x in map(json.loads, lines)}
  for way in [way for way in ways.WAYS if (way.clients, way.name) not in known]:
    if time.monotonic() >= end:
      break
    record = line(way, *measure(way))
    print(way.clients, way.name, record['crossings'], flush=True)
    with RESULTS.open('a') as file:
      file.write(json.dumps(record) + '\n')
    jax.clear_caches()


if __name__ == '__main__':
  main()

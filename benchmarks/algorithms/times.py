"""The time of a round of each algorithm, as a multiple of FedAvg's."""

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedjax_sim import data
from fedjax_sim.core.types import FederatedAlgorithm, Model
from fedjax_sim.data import sampling
from fedjax_sim.experiment import workdir
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.drive import drive

RESULTS = Path(__file__).parents[1] / 'results' / 'algorithm_times.jsonl'
TURNS, ROUNDS = 5, 5


def measure(
    model: Model,
    train: data.FederatedData,
    algorithms: Mapping[str, FederatedAlgorithm],
    cohort_size: int,
) -> Iterator[dict[str, Any]]:
  """A line an algorithm: the median over turns of its time to FedAvg's.

  Both are compiled and warm, take the same cohorts, five rounds a turn, and
  evaluate nothing.

  Args:
    model: the model.
    train: the federation.
    algorithms: by name, 'fedavg' among them.
    cohort_size: M.
  """
  sampler = sampling.uniform(train.num_clients, cohort_size, seed=0)
  devices = len(jax.devices())
  lanes = -(-cohort_size // devices)

  def runner(algorithm):
    simulation = build_lib.build(
        model, algorithm, train, sampler, devices=devices, lanes=lanes)
    _ = simulation.program.compiled  # Not timed.

    def seconds() -> float:
      # A record's seconds end when its round's metrics are on the host.
      return sum(
          record['seconds'] for progress in drive(
              simulation, simulation.init(), ROUNDS, evaluate=lambda r: False,
              rounds_per_dispatch=ROUNDS) for record in progress.records[0])

    seconds()
    return seconds

  base = runner(algorithms['fedavg'])
  for name, algorithm in algorithms.items():
    own = runner(algorithm)
    ratios = [own() / base() for _ in range(TURNS)]
    yield {
        'name': name, 'ratio': float(np.median(ratios)), 'ratios': ratios,
        'rounds': ROUNDS, 'devices': devices, 'lanes': lanes,
        'date': datetime.date.today().isoformat(),
        'environment': workdir.environment()}

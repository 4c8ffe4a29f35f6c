"""The bytes of a client in a round of each algorithm, from shapes alone."""

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from fedjax_sim import data
from fedjax_sim.core.types import FederatedAlgorithm, Model
from fedjax_sim.simulation import traffic
from fedjax_sim.simulation.simulation import first_inputs

RESULTS = Path(__file__).parents[1] / 'results' / 'algorithm_bytes.jsonl'


def measure(
    model: Model, train: data.FederatedData,
    algorithms: Mapping[str, FederatedAlgorithm],
) -> Iterator[dict[str, Any]]:
  """A line an algorithm: what a client receives and sends in a round.

  Args:
    model: the model.
    train: the federation.
    algorithms: by name.
  """
  shapes = jax.eval_shape(model.init, jax.random.key(0), first_inputs(train))
  for name, algorithm in algorithms.items():
    moved = traffic.per_client(algorithm, train.examples, shapes)
    yield {'name': name, 'down': moved.down, 'up': moved.up,
           'date': datetime.date.today().isoformat()}

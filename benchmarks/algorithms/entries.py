"""What is compared: each algorithm with the eight settings it may try."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import optax

from fedjax_sim import algorithms
from fedjax_sim.core.types import FederatedAlgorithm

_WORK = {'epochs': 2, 'batch_size': 50}
_RATES = (0.01, 0.02154, 0.04642, 0.1)
_EIGHT = (0.01, 0.01468, 0.02154, 0.03162, 0.04642, 0.06813, 0.1, 0.1468)


class Entry(NamedTuple):
  """An algorithm to be compared.

  Attributes:
    name: unique; 'fedavg' is what the others are compared with.
    family: a panel of the plot.
    grid: numbers, name -> values; all combinations are tried.
    make: `(model, **numbers) -> FederatedAlgorithm`; the numbers are traced.
  """

  name: str
  family: str
  grid: Mapping[str, Sequence[float]]
  make: Callable[..., FederatedAlgorithm]


ENTRIES = (
    Entry('fedavg', 'baseline', {'client_lr': _EIGHT},
          lambda model, client_lr: algorithms.fedavg(
              model, optax.sgd(client_lr), **_WORK)),
)

"""What each client's device and network can do."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.systems.availability import Windows


class Failures(NamedTuple):
  """Probabilities, in a round, that a device is lost without a report.

  They are independent: floats in [0, 1], or float64 [N] of each client.

  Attributes:
    before: it has received the model and does no step.
    training: it stops at a uniformly random moment of its training.
    after: it stops at a uniformly random moment of sending.
  """

  before: np.ndarray | float = 0.0
  training: np.ndarray | float = 0.0
  after: np.ndarray | float = 0.0


def failures(
    before: float = 0.0, training: float = 0.0, after: float = 0.0
) -> Failures:
  """`Failures`, the same probabilities for all clients.

  Args:
    before: of being lost before the first step, in [0, 1].
    training: during the steps.
    after: while sending.

  Raises:
    ValueError: one does not lie in [0, 1].
  """
  made = Failures(before, training, after)
  for name, value in made._asdict().items():
    checks.fraction(name, value)
  return made


class Profiles(NamedTuple):
  """The devices and networks of N clients.

  Attributes:
    step_seconds: float64 [N], seconds of a gradient on a batch, a step of
      FedAvg; or on an example, as `core.local_cost` says.
    down_bps: float64 [N], bits a second that a client receives.
    up_bps: float64 [N], bits a second that it sends.
    failures: of floats or float64 [N]; None for none.
    windows: when clients are eligible; None for always.
    training_watts: float64 [N], of a device that trains; None if unknown.
    radio_watts: float64 [N], of one that sends or receives; likewise.
  """

  step_seconds: np.ndarray
  down_bps: np.ndarray
  up_bps: np.ndarray
  failures: Failures | None = None
  windows: Windows | None = None
  training_watts: np.ndarray | None = None
  radio_watts: np.ndarray | None = None


class Population(NamedTuple):
  """Whose devices they are: a distribution, or a table.

  Attributes:
    make: `(num_clients, seed) -> Profiles`.
  """

  make: Callable[[int, int], Profiles]

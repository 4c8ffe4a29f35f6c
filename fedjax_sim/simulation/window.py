"""The rounds that a compiled program is handed at once, planned."""

from typing import NamedTuple

import numpy as np

from fedjax_sim.core.types import PyTree
from fedjax_sim.simulation import plan as plan_lib
from fedjax_sim.simulation.selecting import Chosen


class Window(NamedTuple):
  """The planned rounds `start` to `stop` - 1, and the examples they take.

  Attributes:
    start: the first round, from 0.
    stop: one after the last.
    plan: on the host.
    placed: the plan on the devices.
    examples: on the devices: of all clients, or of this window's.
    clients: where their states are stored, for each device those whose it
      holds in this window, int [·], in the order of their places; else None.
    evaluate: for each round.
    padded_share: for each round, see `plan.padded_share`.
    imbalance: for each round, see `plan.imbalance`.
    chosen: its one round, where a selector has chosen it; else None.
  """

  start: int
  stop: int
  plan: plan_lib.Plan
  placed: plan_lib.Plan
  examples: PyTree
  clients: list[np.ndarray] | None
  evaluate: list[bool]
  padded_share: np.ndarray
  imbalance: np.ndarray
  chosen: Chosen | None = None

"""The runs of a sweep, and where they are."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from fedjax_sim.simulation.rounds import SimulationState


class Member(NamedTuple):
  """One run of a sweep.

  Attributes:
    seed: of initial weights, cohorts, orders, dropout.
    hyperparameters: the arguments that make its algorithm, numbers.
    federation: which of the sweep's federations it trains on.
  """

  seed: int
  hyperparameters: Mapping[str, float]
  federation: int = 0


class SweepState(NamedTuple):
  """Where a sweep is; a checkpoint of it is this.

  Members are dealt to places, as many on each device.

  Attributes:
    states: SimulationState [places, ...] on the devices.
    members: int32 [places], whose state is there; -1 in an empty place.
    done: int32 [places], the rounds that it has done.
    clock: float64 [members], the simulated time by what messages have really
      cost; `()` where rounds take no time.
  """

  states: SimulationState
  members: np.ndarray
  done: np.ndarray
  clock: np.ndarray | tuple[()] = ()

  def of(self, member: int) -> SimulationState:
    """The state of one member."""
    (place,) = np.flatnonzero(self.members == member)
    return jax.tree.map(lambda x: x[place], self.states)

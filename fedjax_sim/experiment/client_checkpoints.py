"""Checkpoints of a run, with clients' states that are on disk.

A run may go on with states on the devices that were stored before, and the
other way round.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from fedjax_sim.experiment.checkpoints import Checkpoints
from fedjax_sim.simulation.placement import client_states
from fedjax_sim.simulation.rounds import SimulationState

# In a run's folder.
FOLDER = 'client_states'


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunCheckpoints:
  """The checkpoints of `SimulationState`s.

  Attributes:
    checkpoints: where all goes that is not kept on disk anyhow.
    folder: the run's.
  """

  checkpoints: Checkpoints
  folder: Path

  def latest(self) -> int | None:
    """The round of the newest checkpoint, None if there is none."""
    return self.checkpoints.latest()

  def newest_good(self) -> int | None:
    """As `Checkpoints` has it."""
    return self.checkpoints.newest_good()

  def notes(self, round_number: int) -> dict[str, Any]:
    """As `Checkpoints` has it."""
    return self.checkpoints.notes(round_number)

  def save(
      self, round_number: int, state: SimulationState,
      notes: dict[str, Any] | None = None,
  ) -> None:
    """Writes a checkpoint; on return it is on disk."""
    if round_number != self.latest():  # Else there is one, to stay as it is.
      client_states.of(state).save(
          state, round_number, functools.partial(
              self.checkpoints.save, round_number, notes=notes))

  def restore(
      self, round_number: int, like: SimulationState) -> SimulationState:
    """Reads a state.

    Args:
      round_number: of a checkpoint; where states were stored, of the newest.
      like: the state before the first round.

    Raises:
      ValueError: the checkpoint can't be read, clients' states that were stored
        are not there any more, or there are several processes now.
    """
    return client_states.of(like).restore(
        like, round_number, self.checkpoints.shapes(round_number),
        functools.partial(self.checkpoints.restore, round_number),
        self.folder / FOLDER)

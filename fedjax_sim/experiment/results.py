"""What a run leaves in its folder beside its metrics."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedjax_sim.experiment import loop, metrics, plots, workdir
from fedjax_sim.experiment.checkpoints import save_npz
from fedjax_sim.simulation.evaluation import ClientMetrics
from fedjax_sim.simulation.rounds import SimulationState

CLIENTS_FILE = 'clients.json'


def write(
    folder: Path, state: SimulationState, targets: Sequence[float]) -> None:
  """The final parameters, and the curve where there is one."""
  save_npz(folder / 'final_params.npz', state.server.variables._asdict())
  records = metrics.read(folder / loop.METRICS_FILE)
  if any('test/accuracy' in record for record in records):
    plots.curves(records, folder / 'accuracy.png', targets=targets,
                 title=folder.name)


def write_clients(folder: Path, found: ClientMetrics) -> None:
  """A summary of the clients' own metrics; null where one is not finite."""
  workdir.write_json(folder / CLIENTS_FILE, {
      name: value if np.isfinite(value) else None
      for name, value in found.summary().items()})

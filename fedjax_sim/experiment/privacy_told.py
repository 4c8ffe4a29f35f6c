"""What runs tell people of the privacy of a model."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_sim import privacy
from fedjax_sim.core.types import FederatedAlgorithm
from fedjax_sim.data.sampling import Sampler
from fedjax_sim.experiment import workdir
from fedjax_sim.simulation.simulation import Simulation

FILE = 'privacy.json'


class Told(NamedTuple):
  """What the privacy of a run depends on.

  Attributes:
    algorithm: with its aggregator, whose noise is a number.
    sampler: chooses the cohorts.
    timed: whether there are systems.
    rounds: done, or to be done.
  """

  algorithm: FederatedAlgorithm
  sampler: Sampler
  timed: bool
  rounds: int


def of(simulation: Simulation, rounds: int) -> Told:
  """Of a run of its own."""
  return Told(simulation.algorithm, simulation.sampler,
              simulation.timeline is not None, rounds)


def header(told: Told) -> dict[str, str]:
  """A line of the header; {} where nothing is meant to be private."""
  found = _found(told)
  return {} if found is None else {'privacy': _text(found)}


def closing(folder: Path) -> dict[str, str]:
  """A line of the closing table, from what `write` has left."""
  found = workdir.read_json(folder / FILE)
  return {} if found is None else {'privacy': _text(found)}


def columns(folders: Sequence[Path]) -> dict[str, list[str]]:
  """A column of a sweep's table, if any of its runs is meant to be private."""
  found = [workdir.read_json(folder / FILE) for folder in folders]
  if not any(found):
    return {}
  return {'epsilon (delta)': [
      '-' if not one or 'none' in one else
      f'{_epsilon(one):.4g} ({one["delta"]:.3g})' for one in found]}


def write(folder: Path, told: Told) -> None:
  """Writes what is guaranteed, if anything is meant to be private.

  The file has the fields of a `privacy.Guarantee`, its epsilon null where it
  is infinite, or why there is none.
  """
  found = _found(told)
  if found is not None:
    workdir.write_json(folder / FILE, found)


def _found(told: Told) -> dict[str, Any] | None:
  """What `write` writes."""
  noise = told.algorithm.aggregator.noise_multiplier
  if noise is None or not told.rounds:
    return None
  why = _why_not(told)
  if why is not None:
    return {'none': why}
  scheme = told.sampler.scheme
  try:
    known = privacy.guarantee(
        # The same cohort is heard in each exchange, with fresh noise.
        float(noise) / math.sqrt(len(told.algorithm.phases) + 1),
        rounds=told.rounds, num_clients=told.sampler.num_clients,
        cohort_size=scheme.cohort_size, sampling=scheme.name)
  except ValueError as error:
    return {'none': str(error)}
  epsilon = known.epsilon if math.isfinite(known.epsilon) else None
  return known._asdict() | {'epsilon': epsilon}


def _why_not(told: Told) -> str | None:
  """Why no accountant covers the run, None if one does."""
  if told.timed:
    return ('with systems, who reports depends on more than the chance that an '
            'accountant knows')
  if told.sampler.scheme is None:
    return 'no accountant covers this sampler; poisson and uniform are covered'
  if told.algorithm.edges is not None:
    return 'no accountant covers means at edges'
  return None


def _epsilon(found: dict[str, Any]) -> float:
  return math.inf if found['epsilon'] is None else found['epsilon']


def _text(found: dict[str, Any]) -> str:
  if 'none' in found:
    return f'no epsilon: {found["none"]}'
  fields = {name: found[name] for name in privacy.Guarantee._fields}
  return str(privacy.Guarantee(**fields | {'epsilon': _epsilon(found)}))

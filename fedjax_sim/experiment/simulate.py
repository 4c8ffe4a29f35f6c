"""`simulate`: rounds from Python."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from fedjax_sim.core import argument_kinds, checks
from fedjax_sim.core.types import FederatedAlgorithm, Model, PyTree, Variables
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation import plan as plan_lib
from fedjax_sim.simulation.build import build
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.records import Record
from fedjax_sim.simulation.rounds import SimulationState


class Result(NamedTuple):
  """What `simulate` returns.

  Attributes:
    state: the `SimulationState` after the last round. Its `clients` are a
      `StoredStates` where they were stored on disk, in a file that is gone
      with it.
    records: a dict for each round: `round` (from 1), `train/loss`, `test/loss`,
      `test/accuracy` (where evaluated), `clients`, `seconds`.
  """

  state: SimulationState
  records: list[Record]

  @property
  def variables(self) -> Variables:
    """The global model; of an algorithm with several, all of them."""
    return self.state.server.variables

  def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rounds and values of a metric where it was measured."""
    points = [(record['round'], record[name])
              for record in self.records if name in record]
    if not points:
      names = sorted({key for record in self.records for key in record})
      raise ValueError(
          f'no record has metric {name!r}; there are {", ".join(names)}.')
    rounds, values = zip(*points, strict=True)
    return np.array(rounds), np.array(values)


@argument_kinds.checked
def simulate(
    model: Model,
    algorithm: FederatedAlgorithm,
    train: FederatedData,
    *,
    rounds: int,
    clients_per_round: int | None = None,
    client_fraction: float | None = None,
    test: PyTree | None = None,
    more_sets: Mapping[str, PyTree] | None = None,
    eval_every: int = 1,
    seed: int = 0,
    devices: int | str = 'auto',
    lanes: int | str = 'auto',
    examples: str = 'auto',
    client_state: str = 'auto',
    rounds_per_dispatch: int | None = None,
    on_dispatch: Callable[[list[Record]], None] = lambda records: None,
) -> Result:
  """Trains a federation for a number of rounds.

  Args:
    model: the model.
    algorithm: built around the same model.
    train: the federation.
    rounds: how many.
    clients_per_round: the cohort's size M, drawn without replacement; this or
      `client_fraction`.
    client_fraction: C in [0, 1]; 0 is one client a round.
    test: PyTree [E, ...] of test examples, None for no evaluation.
    more_sets: further sets to evaluate on, name -> PyTree [E, ...]; of a set
      'backdoor' records have 'backdoor/loss', and so on.
    eval_every: evaluate after every so many rounds, and after the last.
    seed: of initial weights, cohorts, orders, dropout.
    devices: how many of `jax.devices()` share a round's clients. 'auto' is all
      for a short job; for a long one (about ten minutes) it is measured whether
      all or one are faster here, which takes a minute or two the first time.
      Doesn't change the result, up to the order of summation. `use_all_cores`
      makes a device of each core.
    lanes: clients computed side by side on a device; likewise.
    examples: where the training examples lie. 'auto': all of them on every
      device, or of a mapped federation those of the next rounds' cohorts.
      'owned': each device (with devices = 'auto' all there are) holds, and
      each process reads, those of a part of the clients, and computes these;
      in a round one device may then have more to do than another, which
      `imbalance` tells.
    client_state: where the states of clients lie that keep any: 'device' for
      all of them on the devices, each on its owner; 'stored' for a file on the
      disk, and on the devices those of the next rounds' cohorts, to the same
      results; 'auto' stores what would take more than a quarter of the memory.
    rounds_per_dispatch: rounds in one call of the device; likewise.
    on_dispatch: called with the new records, to print or to plot.

  Raises:
    ValueError: an argument is out of range, or the data don't fit the model.
    DivergenceError: the loss became NaN or infinite.
  """
  if not isinstance(train, FederatedData):
    raise ValueError(
        'train must be a federation, as data.federate, data.from_clients and '
        f'data.single make one, got {type(train).__name__}.')
  if not isinstance(model, Model):
    raise ValueError(
        'model must be a Model, as models.from_linen, models.from_nnx and '
        f'models.from_functions make one, got {type(model).__name__}.')
  checks.positive_int('rounds', rounds)
  checks.positive_int('eval_every', eval_every)
  if rounds_per_dispatch is not None:
    checks.positive_int('rounds_per_dispatch', rounds_per_dispatch)
  cohort = sampling.cohort_size(
      train.num_clients, clients_per_round=clients_per_round,
      client_fraction=client_fraction)
  sampler = sampling.uniform(train.num_clients, cohort, seed)
  simulation = build(
      model, algorithm, train, sampler, test=test, more_sets=more_sets,
      seed=seed, devices=devices, lanes=lanes, rounds=rounds,
      examples=examples, client_state=client_state)
  records = []
  for progress in drive(
      simulation, simulation.init(), rounds,
      evaluate=plan_lib.evaluate_after(eval_every, rounds),
      rounds_per_dispatch=rounds_per_dispatch):
    for error in progress.diverged.values():
      raise error
    records += progress.records[0]
    on_dispatch(progress.records[0])
  return Result(simulation.state_of(progress.state, 0), records)

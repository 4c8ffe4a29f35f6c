"""The clients' own metrics in runs of a sweep that share a program."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fedjax_sim.core import random
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.experiment import build_sweep, client_history
from fedjax_sim.simulation import client_evaluation
from fedjax_sim.simulation.client_evaluation import ClientMetrics
from fedjax_sim.simulation.records import Record
from fedjax_sim.simulation.sweep import SweepState
from fedjax_sim.simulation.sweep_runs import SweepRuns


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientsOfEach:
  """What a run of its own leaves of its clients, for each member.

  Members are evaluated one after the other, between dispatches, by a program
  for each federation.

  Attributes:
    runs: the members.
    folders: of each.
    tests: the clients' test examples, for each federation; empty if none are
      held out.
    every: rounds between two lines of the table; 0 is none.
    rounds: of a run.
    newest: member -> the round and metrics of its newest evaluation.
  """

  runs: SweepRuns
  folders: Sequence[Path]
  tests: Sequence[FederatedData]
  every: int
  rounds: int
  newest: dict[int, tuple[int, ClientMetrics]] = dataclasses.field(
      default_factory=dict)

  def pause(self, r: int) -> bool:
    """Whether the state is needed after round r (from 0)."""
    return self._is_due(r + 1)

  def restore(self, state: SweepState) -> None:
    """Drops lines of rounds that will be computed again."""
    for i, done in self.runs.done(state).items():
      client_history.truncate_after(
          self.folders[i] / client_history.FILE,
          done or -1)  # Round 0 is evaluated again.

  def see(self, state: SweepState, last: Mapping[int, Record]) -> None:
    """After a dispatch, with the last record of each member in it."""
    for i, record in last.items():
      if self._is_due(record['round']):
        client_history.append(
            self.folders[i] / client_history.FILE, record['round'],
            self._train(i).client_ids, self.after(state, i))

  def after(self, state: SweepState, member: int) -> ClientMetrics:
    """The metrics of a member's clients with its model as it is now."""
    done = self.runs.done(state)[member]
    if self.newest.get(member, (None,))[0] != done:
      one = self.runs.members[member]
      with self.runs.sweep.placement.tracing():
        found = self._evaluators[one.federation](
            random.root_key(one.seed), one.hyperparameters,
            self.runs.state_of(state, member))
      self.newest[member] = done, found
    return self.newest[member][1]

  def _is_due(self, round_number: int) -> bool:
    return bool(self.tests) and client_history.is_due(
        round_number, self.every, self.rounds)

  def _train(self, member: int) -> FederatedData:
    sweep = self.runs.sweep
    return sweep.federations[self.runs.members[member].federation]

  @functools.cached_property
  def _evaluators(self) -> list[Callable[..., ClientMetrics]]:
    """For each federation."""
    sweep = self.runs.sweep
    return [
        client_evaluation.evaluator_of_runs(
            sweep.model, sweep.make_algorithm, train, test)
        for train, test in zip(sweep.federations, self.tests, strict=True)]


def of(
    config: ConfigDict, settings: Sequence[Mapping[str, Any]], runs: SweepRuns,
    folders: Sequence[Path],
) -> ClientsOfEach:
  """For runs of a config with these settings, with the folder of each."""
  return ClientsOfEach(
      runs=runs, folders=folders, every=config.client_eval_every,
      tests=build_sweep.client_tests(config, settings), rounds=config.rounds)

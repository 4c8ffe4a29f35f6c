"""Rounds in simulated time: from a timeline to plans and records."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sim.core import frozen, mixing, trees
from fedjax_sim.core.types import FederatedAlgorithm, PyTree, Variables
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.data.sampling import Sampler
from fedjax_sim.simulation import check_topology, engine, traffic
from fedjax_sim.simulation.records import Record
from fedjax_sim.systems.arrivals import Arrivals, arrivals
from fedjax_sim.systems.clients_at_work import Step
from fedjax_sim.systems.profiles import Population
from fedjax_sim.systems.report_window import Reporting
from fedjax_sim.systems.timed_round import Costs, TimedRound
from fedjax_sim.systems.timeline import Timeline, timeline

# What is known of rounds, or of server steps, in simulated time.
Known = Timeline | Arrivals


class Systems(NamedTuple):
  """What makes rounds take time.

  Attributes:
    population: whose devices they are.
    reporting: the server's rule.
  """

  population: Population
  reporting: Reporting = Reporting()

  def timeline(
      self, algorithm: FederatedAlgorithm, train: FederatedData,
      variables: Variables, sampler: Sampler, seed: int,
  ) -> Known:
    """The timeline of a run.

    Args:
      algorithm: the algorithm.
      train: the federation.
      variables: of the model; only shapes matter.
      sampler: chooses the clients.
      seed: of the run.

    Raises:
      ValueError: as `systems.timeline.timeline` or `systems.arrivals.arrivals`.
    """
    down, up = nominal_bits(
        algorithm, train.examples, variables, train.num_clients)
    work = algorithm.local_cost
    costs = Costs(
        np.asarray(algorithm.local_steps(train.sizes)), down, up,
        work.gradients, work.beside(train.sizes))
    if self.reporting.asynchrony is not None:
      return arrivals(
          self.population, self.reporting, sampler, costs, seed,
          keeps_states(algorithm, train, variables))
    counts = getattr(algorithm.local_steps, 'counts_steps', False)
    made = timeline(
        self.population, self.reporting, sampler, costs, seed, counts,
        **{} if algorithm.edges is None else {'after': algorithm.edges.after})
    check_topology.check_time(algorithm, made)
    return made


def versions(systems: Systems | None, reports: int) -> int | None:
  """How many of the newest models clients may have begun with.

  None where all begin with the newest one.

  Args:
    systems: what makes rounds take time; None for nothing.
    reports: K, those of a server step.
  """
  rule = systems and systems.reporting.asynchrony
  return rule.settled(reports).max_lag + 1 if rule else None


def keeps_states(
    algorithm: FederatedAlgorithm, train: FederatedData, variables: Variables
) -> bool:
  """Whether the algorithm or a transform keeps a state of each client."""
  first = engine.first_state(algorithm, train, variables)
  return bool(jax.tree.leaves(engine.client_states(first)))


def nominal_bits(
    algorithm: FederatedAlgorithm, examples: PyTree, variables: Variables,
    num_clients: int,
) -> list[float]:
  """Bits that a client receives and sends in a round, as known beforehand.

  Where clients gossip and have unequal numbers of neighbours, those of the one
  with most.

  Args:
    algorithm: the algorithm.
    examples: PyTree [E, ...]; only shapes and dtypes matter.
    variables: of the model; likewise.
    num_clients: N.
  """
  if algorithm.gossip is not None:
    neighbours = mixing.links(algorithm.gossip.weights(num_clients)).sum(axis=1)
    size = trees.num_bytes(frozen.without(variables))
    return [8.0 * size * int(neighbours.max())] * 2
  exchanges = traffic.read_walk(
      algorithm, examples, variables,
      lambda walked: [w.nominal for w in walked])
  return [float(sum(bits)) for bits in zip(*exchanges, strict=True)]


def recounts(
    known: Known | None, algorithm: FederatedAlgorithm, examples: PyTree,
    variables: Variables,
) -> bool:
  """Whether a round's seconds are told by what its messages have cost.

  That is so where bits vary, in rounds; the time of a step of an asynchronous
  server is what was known beforehand.

  Args:
    known: the timeline, None where rounds take no time.
    algorithm: the algorithm.
    examples: PyTree [E, ...]; only shapes and dtypes matter.
    variables: of the model; likewise.
  """
  return isinstance(known, Timeline) and traffic.read_walk(
      algorithm, examples, variables, lambda walked: any(
          isinstance(bits, jax.Array) for w in walked
          for bits in (w.down, w.up)))


def outcomes(
    known: Known | None, start: int, count: int, always: bool = False,
    rounds: Sequence[TimedRound] | None = None,
) -> dict[str, Any]:
  """What `plan_rounds` is told of rounds from `start` on.

  Args:
    known: the timeline; None for rounds that take no time.
    start: the first round, from 0.
    count: how many.
    always: whether to tell of what can't happen too, so that timelines of
      other devices have the same kind of plan.
    rounds: the rounds; None for those that the timeline has.
  """
  asynchronous = known is not None and known.reporting.asynchrony is not None
  if known is None or not (asynchronous or always or known.may_lose):
    return {}
  if rounds is None:
    rounds = [known.round(start + i) for i in range(count)]
  if asynchronous:
    return {'lags': [one.lag for one in rounds]}
  found = {'arrives': [one.arrives for one in rounds]}
  if known.reporting.is_partial and (always or known.may_be_late):
    found['done'] = [one.work for one in rounds]
  return found


def fields(known: Known | None, number: int) -> Record:
  """What a round's record says of it; {} without a timeline.

  Args:
    known: the timeline.
    number: the round's, from 0.
  """
  if known is None:
    return {}
  return of_round(known.round(number), known.begin(number), known.end(number),
                  known.costs)


def of_round(
    one: TimedRound | Step, begin: float, end: float, costs: Costs
) -> Record:
  """What a record says of a round.

  Args:
    one: the round.
    begin: the time at which the server turned to it, as `one.start` has it.
    end: the time that the record tells.
    costs: of messages in this round, and of those that did not arrive.
  """
  found = {
      'started': one.started,
      'lost': one.lost,
      'failed': int(one.failed),
      'duration': one.seconds + (one.start - begin),
      'simulated_seconds': end,
      # Beside the whole messages that `traffic` counts.
      'bytes_down_spared': one.spared * costs.down_bits / 8,
      'bytes_up_lost': one.wasted * costs.up_bits / 8,
  }
  if one.lag is not None:
    found |= {
        'lag/mean': float(one.lag.mean()), 'lag/max': int(one.lag.max()),
        'discarded': one.discarded}
  return found if one.joules is None else found | {'joules': one.joules}


def first_fields(known: Known | None) -> Record:
  """What the record of round 0 says: nothing has happened yet."""
  return {} if known is None else {'simulated_seconds': 0.0}


def add_lost(record: Record) -> None:
  """Corrects a round's bytes by what was lost on the way.

  Messages that did not arrive have been sent, in part or as a whole, and some
  clients have not received all.
  """
  record['bytes_up'] += record.get('bytes_up_lost', 0)
  record['bytes_down'] -= record.pop('bytes_down_spared', 0)

"""The engine: many rounds of an algorithm as one compiled program.

A round broadcasts, runs blocks of W clients side by side, sends their messages
through the transforms into the reducer's accumulator, and hands the aggregate
to the server. Nothing crosses between host and device inside a dispatch. Of
several devices each runs blocks of its own; their accumulators are merged.

One program serves any window of a plan's rounds, since where it begins and ends
are traced scalars: a round's bits can't depend on how rounds are grouped.
"""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from fedjax_sim.core import checks, reuse
from fedjax_sim.core.types import FederatedAlgorithm, PyTree, Variables
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation.exchange_types import Asked
from fedjax_sim.simulation.placement import client_owners, sharding
from fedjax_sim.simulation.plan import Plan
from fedjax_sim.simulation.rounds import (
    Evaluate,
    Rounds,
    SimulationState,
    no_evaluation,
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Engine:
  """A compiled simulation of one algorithm on one federation.

  Attributes:
    init: `(Variables, key) -> SimulationState`, with a client's first state in
      every row.
    states: `(clients, transforms)` of a `SimulationState`, as shapes.
    owners: int [N], the device that must compute a client, since it holds the
      client's state or examples; None where any device may.
    trace: traces the program `(examples, SimulationState, Plan, first, last,
      key, eval_data, frozen weights) -> (SimulationState, RoundOutputs
      [R])`. It runs the
      plan's rounds from `first` up to, not including, `last`; the state is
      donated.
  """

  init: Callable[[Variables, jax.Array], SimulationState]
  states: tuple[PyTree, PyTree]
  owners: np.ndarray | None
  trace: Callable[..., jax.stages.Traced]


def build_engine(
    algorithm: FederatedAlgorithm,
    data: FederatedData,
    variables: Variables,
    *,
    placement: sharding.Placement,
    examples: jax.sharding.NamedSharding,
    lanes: int,
    cohort_size: int,
    owned: bool = False,
    num_states: int | None = None,
    versions: int | None = None,
    may_be_idle: bool = False,
    evaluate: Evaluate = no_evaluation,
    asked: Asked = Asked(),
) -> Engine:
  """Builds the engine; the same one for the same parts and shapes.

  Args:
    algorithm: the algorithm.
    data: the federation, N clients.
    variables: the model's shapes.
    placement: the devices.
    examples: how the examples lie on them: all on each, or a part of the rows.
    lanes: W, clients computed side by side on a device; memory grows with it.
    cohort_size: most clients in a round.
    owned: whether each device must compute the clients it owns, since it holds
      their examples.
    num_states: clients whose state a device holds; None is all that it owns.
    versions: as in `Rounds`.
    may_be_idle: likewise.
    evaluate: an `Evaluate`, run after the rounds that the plan marks; each
      device is given its part of the arrays' first axis.
    asked: what is told of each slot.
  """
  checks.positive_int('lanes', lanes)
  sizes = data.sizes
  devices = placement.size
  ragged = bool(np.ptp(sizes) > 0 or cohort_size % (lanes * devices))
  if num_states is None:
    num_states = client_owners.clients_per_device(data.num_clients, devices)
  return _build(
      dict(algorithm=algorithm, num_clients=data.num_clients, devices=devices,
           max_size=int(sizes.max()), ragged=ragged, cohort_size=cohort_size,
           num_states=num_states, versions=versions, may_be_idle=may_be_idle,
           evaluate=evaluate, asked=asked),
      one_example(data), int(np.sum(sizes > 0)), variables, placement,
      examples, owned)


@reuse.reused(size=8)
def _build(
    parts: dict, example: PyTree, num_with_examples: int, variables: Variables,
    placement: sharding.Placement, examples: jax.sharding.NamedSharding,
    owned: bool,
) -> Engine:
  """`build_engine`, from what the program depends on.

  Args:
    parts: the fields of `Rounds`.
    example: shapes of one.
    num_with_examples: clients that have any.
    variables: the model's shapes.
    placement: the devices.
    examples: how the examples lie on them.
    owned: whether each device computes the clients it owns.
  """
  rounds = Rounds(**parts)
  everywhere, split = placement.everywhere, placement.split()
  state = SimulationState(everywhere, everywhere, split, split)
  slots = placement.split(axis=1)
  compiled = sharding.spread(
      rounds.run, placement,
      in_specs=(examples, state, Plan(slots, everywhere),
                everywhere, everywhere, everywhere, split, everywhere),
      out_specs=(state, everywhere), donate_argnums=1)
  init = lambda variables, key: rounds.init(
      example, variables, key, num_with_examples)
  first = jax.eval_shape(init, variables, jax.random.key(0))
  states = first.clients, first.transforms
  return Engine(
      init=jax.jit(init, out_shardings=state),
      states=states,
      owners=client_owners.owners(rounds.num_clients, rounds.devices)
      if owned or jax.tree.leaves(states) else None,
      trace=reuse.reused(size=4)(compiled.trace))


def first_state(
    algorithm: FederatedAlgorithm, data: FederatedData, variables: Variables,
    versions: int | None = None,
) -> SimulationState:
  """Shapes of the state before the first round, with one client's [1, ...].

  Args:
    algorithm: the algorithm.
    data: the federation; only shapes matter, as of the next.
    variables: of the model.
    versions: as in `Rounds`.
  """
  rounds = Rounds(
      algorithm=algorithm, num_clients=data.num_clients, devices=1,
      max_size=int(data.sizes.max()), ragged=True, cohort_size=1,
      num_states=1, versions=versions)
  return jax.eval_shape(
      lambda variables, key: rounds.init(one_example(data), variables, key),
      variables, jax.random.key(0))


def client_states(state: SimulationState) -> tuple[PyTree, PyTree]:
  """Shapes of one client's state and memories, from those of `first_state`."""
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype),
      (state.clients, state.transforms))


def one_example(data: FederatedData) -> PyTree:
  """The shapes of one example [1, ...]."""
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype),
      data.examples)

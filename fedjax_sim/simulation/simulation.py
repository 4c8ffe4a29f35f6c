"""A simulation ready to run: what `drive` needs of a single run."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from fedjax_sim.clients import batches, gradients
from fedjax_sim.core import frozen, random, reuse
from fedjax_sim.core.types import (
    FederatedAlgorithm,
    MetricSums,
    Model,
    PyTree,
    Variables,
)
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation import engine as engine_lib
from fedjax_sim.simulation import evaluation, in_time, round_notes, traffic
from fedjax_sim.simulation import plan as plan_lib
from fedjax_sim.simulation.placement import (
    client_owners,
    client_states,
    collectives,
    sharding,
    streamed_examples,
)
from fedjax_sim.simulation.placement.client_store import ClientStore
from fedjax_sim.simulation.placement.stored_states import StoredStates
from fedjax_sim.simulation.program import Program
from fedjax_sim.simulation.records import Record
from fedjax_sim.simulation.rounds import SimulationState
from fedjax_sim.simulation.selecting import Chosen, Selecting
from fedjax_sim.simulation.window import Window


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Simulation:
  """A simulation ready to run: engine, data, sampler and compiled program.

  It is what `drive.Runs` describes, with one member.

  Attributes:
    model: the model.
    algorithm: the algorithm.
    train: the federation.
    sampler: who takes part in a round.
    engine: the device side.
    program: the engine's rounds, `(examples, SimulationState, Plan, first,
      last, key, eval_data) -> (SimulationState, RoundOutputs [R])`.
    placement: the devices.
    lanes: W, of each device.
    lanes_reason: in words, how devices and W were chosen.
    num_blocks: blocks of a device in a round.
    capacity: R, the rounds that the program can take at once.
    local_steps: int [N], of every client, as the algorithm says.
    seed: of the root key.
    key: the root key of the run, on the devices.
    examples: those of all clients on the devices; None where each window
      brings its own.
    owned: whether each device holds those of the clients it owns only.
    example_buffer: examples of a window on a device, where it brings them.
    state_buffer: clients whose states a device holds in a window, where they
      are stored on disk; else None.
    eval_data: evaluation sets by name, on the devices.
    timeline: rounds in simulated time; None where nobody asks for them.
    selecting: how a selector's cohorts are chosen; None for other samplers.
    measure: as `client_losses.measuring` gives it; None if nothing is measured.
    recounts: whether simulated time is told by what messages have cost.
  """

  model: Model
  algorithm: FederatedAlgorithm
  train: FederatedData
  sampler: sampling.Sampler
  engine: engine_lib.Engine
  program: Program
  placement: sharding.Placement
  lanes: int
  lanes_reason: str
  num_blocks: int
  capacity: int
  local_steps: np.ndarray
  seed: int
  key: jax.Array
  examples: PyTree | None
  owned: bool
  example_buffer: int
  state_buffer: int | None
  eval_data: dict[str, evaluation.EvalData]
  timeline: in_time.Known | None = None
  selecting: Selecting | None = None
  measure: Callable | None = None
  recounts: bool = False

  @property
  def looks_ahead(self) -> bool:
    return self.selecting is None

  @functools.cached_property
  def frozen(self) -> PyTree:
    """The model's frozen weights on the devices, None if it has none."""
    return sharding.to_devices(
        frozen.of(self.model, first_inputs(self.train)),
        self.placement.everywhere)

  def init(
      self, folder: Path | None = None, variables: Variables | None = None
  ) -> SimulationState:
    """The state before the first round.

    Args:
      folder: for clients' states where they are stored on disk; written when
        the first ones are. None is a temporary file.
      variables: to begin with, without frozen weights; None are the model's
        own, drawn from the seed.
    """
    state = self.init_on_devices(variables)._replace(
        host=round_notes.first_host_state(self))
    if self.state_buffer is None:
      return state
    first = jax.device_get(jax.tree.map(
        lambda x: x[0], (state.clients, state.transforms)))
    store = ClientStore(folder, self.train.num_clients, first)
    return state._replace(transforms=(), clients=StoredStates(
        store, self.state_buffer, self.placement))

  def init_on_devices(
      self, variables: Variables | None = None
  ) -> SimulationState:
    """As the program takes it, each place for a client with a first state."""
    if variables is None:
      variables = jax.jit(self.model.init)(
          random.named(random.root_key(self.seed), 'model'),
          first_inputs(self.train))
    else:
      variables = variables._replace(frozen=self.frozen)
    return self.engine.init(
        sharding.to_devices(variables, self.placement.everywhere), self.key)

  def plan(
      self, start: int, evaluate: list[bool], chosen: Chosen | None = None
  ) -> plan_lib.Plan:
    """Plans rounds from number `start` (from 0), one for each flag.

    `chosen` is the one round, where a selector has chosen it.
    """
    timed = None
    if self.selecting is None:
      cohorts = [self.sampler.sample(start + i) for i in range(len(evaluate))]
    else:
      some = [] if chosen is None else [chosen]
      cohorts, timed = [x.cohort for x in some], [x.timed for x in some]
    plan = plan_lib.plan_rounds(
        cohorts, evaluate, self.local_steps, self.train.offsets,
        lanes=self.lanes, num_blocks=self.num_blocks,
        num_rounds=self.capacity, devices=self.placement.size,
        owners=self.engine.owners, start=start,
        once=bool(jax.tree.leaves(self.engine.states)),
        **in_time.outcomes(
            self.timeline, start, len(evaluate), rounds=timed))
    return client_owners.rebase(plan, self.train) if self.owned else plan

  def window(
      self, start: int, stop: int,
      evaluate: Callable[[int], bool] = lambda r: False, *,
      state: SimulationState | None = None, active: set[int] | None = None,
  ) -> Window:
    """Plans as many rounds from `start` as the program can take at once.

    Those of a selector depend on the state; without one they are planned as if
    nothing was known of any client.
    """
    del active
    stop = min(start + self.capacity, stop)
    flags = [evaluate(r) for r in range(start, stop)]
    chosen, examples, clients = self.chosen(state, start), self.examples, None
    plan = (self.plan(start, flags) if chosen is None
            else self.plan(start, flags, chosen))
    count = stop - start
    if self.state_buffer is not None:
      loads = streamed_examples.load(
          plan, count, np.ones_like(plan.slots.size), self.state_buffer)
      plan = _with(plan, state_index=loads.places)
      count, clients = loads.num_rounds, loads.clients
    if examples is None:
      loads = streamed_examples.load(
          plan, count, plan.slots.size, self.example_buffer)
      plan, count = _with(plan, offset=loads.places), loads.num_rounds
      examples = streamed_examples.fill_buffers(
          self.train, loads, self.example_buffer, self.placement)
    return Window(start, start + count, plan, self.place(plan), examples,
                  clients, flags[:count],
                  plan_lib.padded_share(plan, self.local_steps),
                  plan_lib.imbalance(plan, self.local_steps), chosen)

  def chosen(
      self, state: SimulationState | None, number: int) -> Chosen | None:
    """The round that a selector chooses; None where there is none."""
    if self.selecting is None:
      return None
    if state is None:
      return self.selecting.knowing_nothing()
    return self.selecting.choose(state.host, number, lambda clients: (
        self.measure(self.examples, self.frozen, self.key, state.server,
                     number, clients)))

  def place(self, plan: plan_lib.Plan) -> plan_lib.Plan:
    """A plan on the devices."""
    return plan_lib.Plan(
        sharding.to_devices(plan.slots, self.placement.split(axis=1)),
        sharding.to_devices(plan.evaluate, self.placement.everywhere))

  @property
  def _examples(self) -> PyTree:
    """Shapes of those that the program takes."""
    if self.examples is not None:
      return jax.tree.map(
          lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self.examples)
    size = self.placement.size * self.example_buffer
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype),
        self.train.examples)

  def trace(self) -> jax.stages.Traced:
    """The program, from the shapes of what it will take."""
    shapes = lambda tree: jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    number = jax.ShapeDtypeStruct((), np.int32)
    state = jax.eval_shape(
        self.engine.init, jax.eval_shape(
            self.model.init, jax.random.key(0), first_inputs(self.train)),
        self.key)
    return self.engine.trace(
        self._examples, shapes(state), shapes(self.plan(0, [])), number, number,
        shapes(self.key), shapes(self.eval_data), shapes(self.frozen))

  def idle_arguments(self) -> tuple:
    """What the program takes, with no round to be done."""
    split, examples = self.placement.split(), self.examples
    if examples is None:
      examples = sharding.to_devices(jax.tree.map(
          lambda x: np.zeros(x.shape, x.dtype), self._examples), split)
    return (examples, self.init_on_devices(), self.place(self.plan(0, [])),
            np.int32(0), np.int32(0), self.key, self.eval_data, self.frozen)

  def done(self, state: SimulationState) -> dict[int, int]:
    """See `drive.Runs`, like the following."""
    return {0: int(state.server.round)}

  def spread(self, state, active):
    del active
    return state

  def turn(self, state, members, seconds):
    del state, seconds
    return members

  def advance(self, state: SimulationState, window: Window, turn, first, last):
    del turn
    clients, transforms = client_states.of(state).load(
        window.plan, window.clients)
    state = state._replace(clients=clients, transforms=transforms, host=())
    return self.call(window.examples, state, window.placed, first, last)

  def call(self, examples, state: SimulationState, plan, first, last):
    """Calls the program, with all that it takes on the devices."""
    return self.program.compiled(
        examples, state, plan, np.int32(first), np.int32(last), self.key,
        self.eval_data, self.frozen)

  def commit(
      self, state, advanced, window: Window, turn, first, last, outputs):
    del turn
    after = client_states.of(state).commit(
        advanced, window.plan, window.clients, slice(first, last))
    host, notes = state.host, []
    for i in range(first, last):
      one = jax.tree.map(lambda x, i=i: x[i], outputs)
      host, note = round_notes.after(self, host, window, i, one)
      notes.append(note)
    return after._replace(host=host), {0: notes}

  def outputs_of(self, state, outputs, member):
    del state, member
    return outputs

  def state_of(self, state: SimulationState, member: int) -> SimulationState:
    del member
    host, state = state.host, sharding.gather(state._replace(host=()))
    return state._replace(
        server=frozen.put(state.server, self.frozen), host=host)

  def evaluate(
      self, state: SimulationState, member: int
  ) -> dict[str, MetricSums]:
    del member
    if not self.eval_data:
      return {}
    run = _evaluation(
        self.model, self.algorithm.evaluated, self.placement)
    return jax.device_get(run(state.server, self.eval_data, self.frozen))

  def first_notes(self, member: int) -> Record:
    del member
    return in_time.first_fields(self.timeline)

  def clients_of(self, window: Window, member: int, i: int) -> np.ndarray:
    del member
    return ids(self.train, window.plan.slots.client[i])

  def bytes_per_client(self) -> traffic.Traffic:
    """Bytes that a client receives and sends in a round, uncompressed."""
    return self._traffic

  @functools.cached_property
  def _traffic(self) -> traffic.Traffic:
    variables = jax.eval_shape(
        self.model.init, jax.random.key(0), first_inputs(self.train))
    return traffic.per_client(self.algorithm, self.train.examples, variables)

  def training_flops(self, variables: Variables) -> float:
    """Floating-point operations to train on one example once, as XLA counts."""
    data = self.train.examples
    size = min(len(jax.tree.leaves(data)[0]), 10)
    examples = jax.tree.map(lambda x: x[:size], data)
    batch = batches.Batch(np.arange(size), np.ones(size, bool),
                          jax.random.key(0), np.int32(0), examples)
    gradient = jax.jit(functools.partial(gradients.batch_gradient, self.model))
    cost = gradient.lower(variables, batch).compile().cost_analysis()
    return cost['flops'] / size


def ids(data: FederatedData, numbers: np.ndarray) -> np.ndarray:
  """The ids of clients, of the shape of their numbers."""
  return np.array([data.client_ids[k] for k in numbers.ravel()],
                  object).reshape(numbers.shape)


@reuse.reused(size=8)
def _evaluation(
    model: Model, evaluated: Callable, placement: sharding.Placement
) -> Callable:
  """`(server state, evaluation sets, frozen weights) -> metrics of each`."""
  everywhere = placement.everywhere
  evaluate = evaluation.of_sets(model)

  def evaluate_sets(server, data, weights):
    variables = evaluated(frozen.put(server, weights))
    return evaluate.finish(collectives.total(evaluate.sums(variables, data)))

  return sharding.spread(
      evaluate_sets, placement,
      in_specs=(everywhere, placement.split(), everywhere),
      out_specs=everywhere)


def _with(plan: plan_lib.Plan, **fields: np.ndarray) -> plan_lib.Plan:
  """The plan with other fields of its slots."""
  return plan._replace(slots=plan.slots._replace(**fields))


def first_inputs(train: FederatedData) -> PyTree:
  """Inputs [1, ...] of one example, for `Model.init`."""
  return jax.tree.map(lambda x: x[:1], train.examples['x'])

"""A simulation ready to run: its windows of rounds, and their dispatches."""

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from fedjax_sim.clients import batches, gradients
from fedjax_sim.core import compilation, random
from fedjax_sim.core.types import FederatedAlgorithm, Model, PyTree, Variables
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation import engine as engine_lib
from fedjax_sim.simulation import evaluation, records, traffic
from fedjax_sim.simulation import plan as plan_lib
from fedjax_sim.simulation.engine import SimulationState
from fedjax_sim.simulation.placement import (
  client_owners,
  client_states,
  device_memory,
  sharding,
  streamed_examples,
)
from fedjax_sim.simulation.placement.client_store import ClientStore
from fedjax_sim.simulation.records import DivergenceError, Row

# Rounds that one compiled program can take at once. It holds only their plan
# and their metrics, so it is generous; how many run at once is chosen by time.
_CAPACITY = 128
# But a plan has a slot for each of a round's clients on each device.
_PLAN_SLOTS = 2 ** 22

# Dispatches are made about this long: short enough for progress and Ctrl-C,
# long enough that the host's part of it doesn't show.
_DISPATCH_SECONDS = 1.0


def _raise(error: DivergenceError) -> None:
  raise error


class Window(NamedTuple):
  """The planned rounds `start` to `stop` - 1, and the examples they take.

  Attributes:
    start: the first round, from 0.
    stop: one after the last.
    plan: on the host.
    placed: the plan on the devices.
    examples: on the devices: of all clients, or of this window's.
    clients: where their states are stored, for each device those whose it
      holds in this window, int [·], in the order of their rows; else None.
    evaluate: for each round.
    padded_share: for each round, see `plan.padded_share`.
    imbalance: for each round, see `plan.imbalance`.
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


class Simulation(NamedTuple):
  """A simulation ready to run: engine, data, sampler and compiled program.

  Attributes:
    model: the model.
    algorithm: the algorithm.
    train: the federation.
    sampler: who takes part in a round.
    engine: the device side.
    placement: the devices.
    lanes: W, of each device.
    lanes_reason: in words, how devices and W were chosen.
    local_steps: int [N], of every client, as the algorithm says.
    seed: of the root key.
    key: the root key of the run, on the devices.
    examples: those of all clients on the devices; None where each window
      brings its own.
    owned: whether each device holds those of the clients it owns only.
    buffer_rows: of the examples of a window on a device, where it does.
    state_rows: of clients' states on a device, each window's, where they are
      stored on disk; else None.
    eval_data: the test set on the devices, or None.
    programs: what `compile` has compiled.
  """

  model: Model
  algorithm: FederatedAlgorithm
  train: FederatedData
  sampler: sampling.Sampler
  engine: engine_lib.Engine
  placement: sharding.Placement
  lanes: int
  lanes_reason: str
  local_steps: np.ndarray
  seed: int
  key: jax.Array
  examples: PyTree | None
  owned: bool
  buffer_rows: int
  state_rows: int | None
  eval_data: evaluation.EvalData | None
  programs: dict[str, jax.stages.Compiled]

  def init(self, folder: Path | None = None) -> SimulationState:
    """The state before the first round.

    Args:
      folder: for clients' states where they are stored on disk; written when
        the first ones are. None is a temporary file.
    """
    state = self.init_rows()
    if self.state_rows is None:
      return state
    first = jax.device_get(jax.tree.map(
        lambda x: x[0], (state.clients, state.transforms)))
    store = ClientStore(folder, self.train.num_clients, first)
    return state._replace(clients=store, transforms=())

  def init_rows(self) -> SimulationState:
    """As the program takes it, with first states in all rows of the devices."""
    key = jax.random.key(self.seed)
    variables = jax.jit(self.model.init)(
        random.named(key, 'model'), first_inputs(self.train))
    return self.engine.init(
        sharding.put(variables, self.placement.everywhere), self.key)

  @property
  def capacity(self) -> int:
    """R, the rounds that the program can take at once."""
    return max(1, min(
        _CAPACITY, _PLAN_SLOTS // (self.placement.size * self._slots)))

  @property
  def _slots(self) -> int:
    """Clients that a device may get in a round."""
    return plan_lib.slots_for(
        self.sampler.max_cohort, self.placement.size,
        self.engine.owners is not None)

  def plan(self, start: int, evaluate: list[bool]) -> plan_lib.Plan:
    """Plans rounds from number `start` (from 0), one for each flag."""
    cohorts = [self.sampler.sample(start + i) for i in range(len(evaluate))]
    plan = plan_lib.plan_rounds(
        cohorts, evaluate, self.local_steps, self.train.offsets,
        lanes=self.lanes,
        num_blocks=plan_lib.blocks_for(self._slots, self.lanes),
        num_rounds=self.capacity, devices=self.placement.size,
        owners=self.engine.owners)
    return client_owners.rebase(plan, self.train) if self.owned else plan

  def window(
      self, start: int, stop: int,
      evaluate: Callable[[int], bool] = lambda r: False,
  ) -> Window:
    """Plans as many rounds from `start` as the program can take at once."""
    stop = min(start + self.capacity, stop)
    flags = [evaluate(r) for r in range(start, stop)]
    plan, examples, clients = self.plan(start, flags), self.examples, None
    count = stop - start
    if self.state_rows is not None:
      loads = streamed_examples.load(
          plan, count, np.ones_like(plan.sizes), self.state_rows)
      plan, count = plan._replace(rows=loads.places), loads.num_rounds
      clients = loads.clients
    if examples is None:
      loads = streamed_examples.load(plan, count, plan.sizes, self.buffer_rows)
      plan, count = plan._replace(offsets=loads.places), loads.num_rounds
      examples = streamed_examples.put(
          self.train, loads, self.buffer_rows, self.placement)
    return Window(start, start + count, plan, self.put(plan), examples,
                  clients, flags[:count],
                  plan_lib.padded_share(plan, self.local_steps),
                  plan_lib.imbalance(plan, self.local_steps))

  def put(self, plan: plan_lib.Plan) -> plan_lib.Plan:
    """A plan on the devices."""
    slots = self.placement.split(axis=1)
    placed = sharding.put(plan._replace(evaluate=()), slots)
    return placed._replace(
        evaluate=sharding.put(plan.evaluate, self.placement.everywhere))

  def lower(self, state: SimulationState) -> jax.stages.Lowered:
    """The program before it is compiled."""
    clients, transforms = self.engine.states
    state = state._replace(clients=clients, transforms=transforms)
    examples = self.examples
    if examples is None:
      examples = jax.tree.map(
          lambda x: jax.ShapeDtypeStruct(
              (self.placement.size * self.buffer_rows, *x.shape[1:]), x.dtype),
          self.train.examples)
    plan = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self.plan(0, []))
    return self.engine.lower(
        examples, state, plan, np.int32(0), np.int32(0), self.key,
        self.eval_data)

  def compile(self, state: SimulationState) -> jax.stages.Compiled:
    """Compiles the rounds, once; to be handed to `dispatches`.

    Raises:
      ValueError: they don't fit into the device's memory.
    """
    if 'rounds' not in self.programs:
      self.programs['rounds'] = self.lower(state).compile(
          compiler_options=compilation.options())
    program = self.programs['rounds']
    device_memory.check(program, self.placement.size, self.lanes)
    return program

  def bytes_per_client(self) -> traffic.Traffic:
    """Bytes that a client receives and sends in a round, uncompressed."""
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

  def dispatches(
      self,
      program: jax.stages.Compiled,
      state: SimulationState,
      stop: int,
      *,
      evaluate: Callable[[int], bool],
      rounds_per_dispatch: int | None = None,
      on_divergence: Callable[[DivergenceError], None] = _raise,
  ) -> Iterator[tuple[SimulationState, list[Row]]]:
    """Runs rounds up to number `stop`, a group of them at a time.

    Args:
      program: from `compile`.
      state: where to start; it is donated, so use only what comes back.
        Clients' states that are stored on disk are changed there.
      stop: the number of rounds done at the end.
      evaluate: round (from 0) -> whether to evaluate after it.
      rounds_per_dispatch: how many at most; None is about a second's worth.
      on_divergence: called with a `DivergenceError` at the first NaN or
        infinity of a group; raises it unless told otherwise.

    Yields:
      (state, rows): the state after the group, and a row for each round.
    """
    start = int(state.server.round)
    limit = min(rounds_per_dispatch or self.capacity, self.capacity)
    count = rounds_per_dispatch or 1
    window, following = self.window(start, stop, evaluate), None
    store, held = state.clients, None
    while start < stop:
      if start == window.stop:
        window, following, held = following, None, None
      count = min(count, limit, window.stop - start)
      first = start - window.start
      begun = time.perf_counter()
      if self.state_rows is not None:
        held = held or client_states.put(
            store, window.clients, self.state_rows, self.placement)
        state = state._replace(clients=held[0], transforms=held[1])
      state, outputs = program(
          window.examples, state, window.placed, np.int32(first),
          np.int32(first + count), self.key, self.eval_data)
      if following is None and window.stop < stop:
        # On the host, while the device works.
        following = self.window(window.stop, stop, evaluate)
      outputs = jax.device_get(outputs)
      if self.state_rows is not None:
        held = state.clients, state.transforms
        client_states.take_back(
            store, held, window.clients, window.plan,
            slice(first, first + count))
        state = state._replace(clients=store, transforms=())
      seconds = (time.perf_counter() - begun) / count
      rows = [self._row(outputs, i, window, seconds)
              for i in range(first, first + count)]
      error = self._divergence(outputs, first, rows)
      if error is not None:
        on_divergence(error)
      yield state, rows
      start += count
      if rounds_per_dispatch is None:
        (longest,) = sharding.agree(seconds)
        count = max(1, min(2 * count, int(_DISPATCH_SECONDS / longest)))

  def _row(self, outputs, i: int, window: Window, seconds: float) -> Row:
    one = jax.tree.map(lambda x: x[i], outputs)
    return records.row(window.start + i + 1, one, window.evaluate[i]) | {
        'padded_steps': float(window.padded_share[i]),
        'imbalance': float(window.imbalance[i]),
        'devices': self.placement.size,
        'lanes': self.lanes,
        'seconds': seconds,
    }

  def _divergence(
      self, outputs, first: int, rows: list[Row]
  ) -> DivergenceError | None:
    """The first round of a group with a NaN or an infinity."""
    for i, row in enumerate(rows, first):
      if records.is_good(jax.tree.map(lambda x, i=i: x[i], outputs)):
        continue
      cohort = self.sampler.sample(row['round'] - 1)
      names = [self.train.client_ids[c] for c in cohort]
      return DivergenceError(row['round'], names, rows[:i - first])
    return None


def first_inputs(train: FederatedData) -> PyTree:
  """Inputs [1, ...] of one example, for `Model.init`."""
  return jax.tree.map(lambda x: x[:1], train.examples['x'])

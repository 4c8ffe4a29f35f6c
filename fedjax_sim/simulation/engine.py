"""The engine: many rounds of an algorithm as one compiled program.

A round broadcasts, runs blocks of W clients side by side, sends their messages
through the transforms into the reducer's accumulator, and hands the aggregate
to the server. Nothing crosses between host and device inside a dispatch. Of
several devices each runs blocks of its own; their accumulators are merged.

One program serves any window of a plan's rounds, since where it begins and ends
are traced scalars: a round's bits can't depend on how rounds are grouped.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core import checks, random, trees
from fedjax_sim.core.types import (
  Aggregate,
  ClientData,
  FederatedAlgorithm,
  Message,
  MetricSums,
  Pool,
  PyTree,
  ServerState,
  Variables,
)
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation.placement import client_owners, sharding
from fedjax_sim.simulation.plan import Plan

Evaluate = Callable[[Variables, PyTree], MetricSums]


class SimulationState(NamedTuple):
  """Everything that rounds change; a checkpoint is this and the seed.

  Attributes:
    server: the algorithm's server state.
    aggregator: the shared state of the aggregation's transforms.
    clients: the algorithm's client states, PyTree [N, ...], N rounded up to a
      multiple of the devices; each device has its part of the rows. Where they
      are stored on disk, the `ClientStore` that holds these and `transforms`;
      what the program takes are then the rows of some rounds' cohorts.
    transforms: the transforms' client states, likewise; `()` where stored.
  """

  server: ServerState
  aggregator: PyTree
  clients: PyTree
  transforms: PyTree


class RoundOutputs(NamedTuple):
  """What is reported of a round; [R, ...] for R rounds.

  Attributes:
    train: MetricSums over the cohort's local training.
    test: MetricSums of the evaluation, zeros where there was none.
    count: int32 [], clients that were present.
    finite: bool [], the server's variables hold no NaN and no infinity.
  """

  train: MetricSums
  test: MetricSums
  count: jax.Array
  finite: jax.Array


class Engine(NamedTuple):
  """A compiled simulation of one algorithm on one federation.

  Attributes:
    init: `(Variables, key) -> SimulationState`, with a client's first state in
      every row.
    states: `(clients, transforms)` of a `SimulationState`, as shapes.
    owners: int [N], the device that must compute a client, since it holds the
      client's state or examples; None where any device may.
    lower: lowers the program `(examples, SimulationState, Plan, first, last,
      key, eval_data) -> (SimulationState, RoundOutputs [R])`. It runs the
      plan's rounds from `first` up to, not including, `last`; the state is
      donated.
  """

  init: Callable[[Variables, jax.Array], SimulationState]
  states: tuple[PyTree, PyTree]
  owners: np.ndarray | None
  lower: Callable[..., jax.stages.Lowered]


class _Slot(NamedTuple):
  """One lane's client in a block: the fields of `Plan`, without axes."""

  client: jax.Array
  occurrence: jax.Array
  present: jax.Array
  offset: jax.Array
  size: jax.Array
  row: jax.Array


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
    rows: int | None = None,
    evaluate: Evaluate = lambda variables, eval_data: {},
) -> Engine:
  """Builds the engine.

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
    rows: clients whose state a device holds; None is all that it owns.
    evaluate: `(Variables, eval_data) -> MetricSums`, run after the rounds that
      the plan marks; each device is given its part of the arrays' first axis.
  """
  checks.positive_int('lanes', lanes)
  sizes = data.sizes
  devices = placement.size
  ragged = bool(np.ptp(sizes) > 0 or cohort_size % (lanes * devices))
  if rows is None:
    rows = client_owners.clients_per_device(data.num_clients, devices)
  rounds = Rounds(
      algorithm, data.num_clients, devices, int(sizes.max()), ragged,
      cohort_size + devices * (lanes - 1), rows, evaluate)
  everywhere, split = placement.everywhere, placement.split()
  state = SimulationState(everywhere, everywhere, split, split)
  slots = placement.split(axis=1)
  compiled = sharding.spread(
      rounds.run, placement,
      in_specs=(examples, state, Plan(*[slots] * 6, everywhere),
                everywhere, everywhere, everywhere, split),
      out_specs=(state, everywhere), donate_argnums=1)
  init = lambda variables, key: rounds.init(
      _one_example(data), variables, key)
  first = jax.eval_shape(init, variables, jax.random.key(0))
  states = first.clients, first.transforms
  return Engine(
      init=jax.jit(init, out_shardings=state),
      states=states,
      owners=client_owners.owners(data.num_clients, devices)
      if owned or jax.tree.leaves(states) else None,
      lower=compiled.lower)


def client_states(
    algorithm: FederatedAlgorithm, data: FederatedData, variables: Variables
) -> tuple[PyTree, PyTree]:
  """Shapes of one client's state, and of the transforms' for it."""
  rounds = Rounds(algorithm, data.num_clients, 1, int(data.sizes.max()), True,
                  1, 1, lambda variables, eval_data: {})
  state = jax.eval_shape(
      lambda variables, key: rounds.init(_one_example(data), variables, key),
      variables, jax.random.key(0))
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype),
      (state.clients, state.transforms))


def _one_example(data: FederatedData) -> PyTree:
  """The shapes of one example [1, ...]."""
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype),
      data.examples)


class Rounds(NamedTuple):
  """The pure functions of the engine, with what is static about them.

  Attributes:
    algorithm: the algorithm.
    num_clients: N.
    devices: D; with several all of this runs inside of `sharding.spread`.
    max_size: most examples of a client.
    ragged: whether clients differ in their number of local steps.
    num_slots: most messages of a round, empty slots included.
    rows: clients whose state a device holds.
    evaluate: as in `build_engine`.
  """

  algorithm: FederatedAlgorithm
  num_clients: int
  devices: int
  max_size: int
  ragged: bool
  num_slots: int
  rows: int
  evaluate: Evaluate

  def total(self, tree):
    """The sum over devices."""
    return sharding.total(tree) if self.devices > 1 else tree

  def merge(self, accumulator):
    """The accumulators of all devices as one."""
    if self.devices == 1:
      return accumulator
    return sharding.merge(accumulator, self.algorithm.aggregator.reducer.merge)

  def init(self, examples, variables, key) -> SimulationState:
    """The state before the first round."""
    algorithm = self.algorithm
    server = algorithm.init(
        variables, random.named(key, 'algorithm'), self.num_clients)
    client_state = algorithm.client_init(variables)
    message = jax.eval_shape(
        lambda examples: self.client_output(
            examples, server, client_state).message, examples)
    rows = self.rows * self.devices
    stack = lambda x: jnp.broadcast_to(x, (rows, *x.shape))
    copies = lambda tree: jax.tree.map(lambda x: stack(jnp.asarray(x)), tree)
    return SimulationState(
        server, algorithm.aggregator.init(message), copies(client_state),
        copies(algorithm.aggregator.client_init(message)))

  def client_output(self, examples, server, client_state):
    """What one client of the federation gives: called for its shapes."""
    data = ClientData(examples, jnp.int32(0), jnp.int32(0),
                      self.max_size, self.ragged)
    nobody = jnp.zeros(1, jnp.int32)
    slots = _Slot(nobody, nobody, nobody > 0, nobody, nobody, nobody)
    broadcast = self.broadcast(
        examples, server, jax.random.key(0), slots, total=lambda tree: tree)
    return self.algorithm.client(
        broadcast, client_state, data, jax.random.key(0))

  def broadcast(self, examples, server, key, slots, total=None):
    """What the clients of a round are sent."""
    message = self.algorithm.broadcast(server)
    if self.algorithm.prepare is None:
      return message
    aggregate = self.algorithm.prepare(
        message, self.pool(examples, key, slots))
    aggregate, _ = _pooled_mean(aggregate, {}, total or self.total)
    return message, aggregate.mean

  def run(self, examples, state, plan: Plan, first, last, key, eval_data):
    """Runs rounds `first` to `last - 1` of the plan."""
    step = lambda state, plan: self.round(
        examples, state, plan, key, eval_data)
    shapes = jax.eval_shape(
        step, state, jax.tree.map(lambda x: x[0], plan))[1]
    capacity = plan.evaluate.shape[0]
    buffers = jax.tree.map(
        lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shapes)

    def body(i, carry):
      state, buffers = carry
      state, outputs = step(state, jax.tree.map(lambda x: x[i], plan))
      buffers = jax.tree.map(
          lambda buffer, x: buffer.at[i].set(x), buffers, outputs)
      return state, buffers

    return jax.lax.fori_loop(first, last, body, (state, buffers))

  def round(self, examples, state: SimulationState, plan, key, eval_data):
    """One round and what is reported of it."""
    algorithm = self.algorithm
    aggregator = algorithm.aggregator
    key = random.round_key(key, state.server.round)
    # Of the device's axis there is one row here.
    slots = jax.tree.map(lambda x: x[0], _Slot(
        plan.clients, plan.occurrences, plan.present, plan.offsets,
        plan.sizes, plan.rows))
    broadcast = self.broadcast(examples, state.server, key, slots)
    pooled = algorithm.pooled and algorithm.pooled(
        broadcast, self.pool(examples, key, slots))
    if pooled:
      aggregate, train = _pooled_mean(*pooled, self.total)
      clients, transforms = state.clients, state.transforms
    else:
      one_client = lambda slot, *states: self.client(
          examples, broadcast, state.aggregator, key, slot, *states)
      accumulator, clients, transforms, train = self.blocks(
          one_client, state, slots)
      train = self.total(train)
      aggregate = aggregator.reducer.finalize(
          self.merge(accumulator), random.named(key, 'finalize'))
    server = algorithm.server(
        state.server, aggregate, random.named(key, 'server'))
    server = server._replace(round=state.server.round + 1)
    state = SimulationState(
        server,
        aggregator.server(
            state.aggregator, aggregate, random.named(key, 'aggregator')),
        clients, transforms)
    return state, self.outputs(state, train, aggregate.count, plan, eval_data)

  def blocks(self, one_client, state: SimulationState, slots: _Slot):
    """This device's blocks: accumulator, clients' new states, metrics."""
    message, metrics = self.shapes(one_client, state, slots)
    accumulator = self.algorithm.aggregator.reducer.init(
        message, self.num_slots)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
    # Only blocks that hold anybody, and these come first.
    used = jnp.sum(slots.present[:, 0], dtype=jnp.int32)
    return jax.lax.fori_loop(
        0, used, lambda i, carry: self.block(
            one_client, carry, jax.tree.map(lambda x: x[i], slots)),
        (accumulator, state.clients, state.transforms, zeros))

  def pool(self, examples, key, slots: _Slot) -> Pool:
    """The data of all slots [blocks, W] in a row."""
    slots = jax.tree.map(jnp.ravel, slots)
    return Pool(
        examples, slots.offset, slots.size, slots.present,
        jax.vmap(lambda *slot: _update_key(key, *slot))(
            slots.client, slots.occurrence))

  def client(
      self, examples, broadcast, aggregator_state, key, slot: _Slot,
      client_state, transform_state,
  ):
    """One slot of a block: the client's work and its message's transforms."""
    data = ClientData(
        examples, slot.offset, slot.size, self.max_size, self.ragged)
    output = self.algorithm.client(
        broadcast, client_state, data,
        _update_key(key, slot.client, slot.occurrence))
    message = output.message._replace(
        present=output.message.present & slot.present, client=slot.client)
    message, transform_state = self.algorithm.aggregator.client(
        message, aggregator_state, transform_state, random.named(
            random.client_key(key, slot.client, slot.occurrence),
            'transforms'))
    return message, output.state, transform_state, output.metrics

  def shapes(self, one_client, state, slots) -> tuple[Message, MetricSums]:
    """The shapes of one client's message, after transforms, and metrics."""
    row = lambda tree: jax.tree.map(lambda x: x[0], tree)
    message, _, _, metrics = jax.eval_shape(lambda: one_client(
        row(row(slots)), row(state.clients), row(state.transforms)))
    return message, metrics

  def block(self, one_client, carry, slots: _Slot):
    """W clients side by side, their messages accumulated."""
    accumulator, clients, transforms, totals = carry
    rows = lambda tree: jax.tree.map(lambda x: x[slots.row], tree)
    messages, new_clients, new_transforms, metrics = _over_lanes(one_client)(
        slots, rows(clients), rows(transforms))
    # An empty slot writes outside of the arrays, that is, nowhere.
    target = jnp.where(slots.present, slots.row, self.rows)
    write = lambda old, new: jax.tree.map(
        lambda x, y: x.at[target].set(y, mode='drop'), old, new)
    metrics = trees.where(
        slots.present, metrics, jax.tree.map(jnp.zeros_like, metrics))
    totals = jax.tree.map(lambda t, m: t + m.sum(0), totals, metrics)
    accumulator = self.algorithm.aggregator.reducer.accumulate(
        accumulator, messages)
    return (accumulator, write(clients, new_clients),
            write(transforms, new_transforms), totals)

  def outputs(self, state, train, count, plan, eval_data) -> RoundOutputs:
    """Evaluates where the plan says so."""
    variables = self.algorithm.evaluated(state.server)
    shapes = jax.eval_shape(self.evaluate, variables, eval_data)
    test = jax.lax.cond(
        plan.evaluate,
        lambda: self.evaluate(variables, eval_data),
        lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
    return RoundOutputs(train, self.total(test), count,
                        trees.all_finite(state.server.variables))


def _pooled_mean(
    aggregate: Aggregate, train: MetricSums, over_devices
) -> tuple[Aggregate, MetricSums]:
  """The aggregate of all devices' clients, from those of each device's."""
  weighted = trees.scale_rows(aggregate.mean, aggregate.weight)
  total, weight, count, aux, train = over_devices(
      (weighted, aggregate.weight, aggregate.count, aggregate.aux, train))
  return Aggregate(
      trees.divide_rows(total, weight), weight, count, aux), train


def _over_lanes(one_client):
  """`vmap`, which a single lane is spared.

  With an axis of one in front of all weights XLA lays gradients out the other
  way round than weights, which makes a step slower.
  """
  def run(*args):
    if jax.tree.leaves(args)[0].shape[0] > 1:
      return jax.vmap(one_client)(*args)
    outputs = one_client(*jax.tree.map(lambda x: x[0], args))
    return jax.tree.map(lambda x: jnp.asarray(x)[None], outputs)
  return run


def _update_key(round_key, client, occurrence) -> jax.Array:
  """The key that a client's update is given."""
  return random.named(
      random.client_key(round_key, client, occurrence), 'client')

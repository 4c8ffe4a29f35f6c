"""`simulate`: rounds from Python, and the loop of dispatches behind it."""

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from fedjax_sim import compilation, evaluation, validation
from fedjax_sim import lanes as lanes_lib
from fedjax_sim import rows as rows_lib
from fedjax_sim.clients import batches, gradients
from fedjax_sim.core import checks, random
from fedjax_sim.core.types import FederatedAlgorithm, Model, PyTree, Variables
from fedjax_sim.data import mapped, sampling
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.rows import DivergenceError, Row
from fedjax_sim.simulation import (
  client_rows,
  memory,
  ownership,
  sharding,
  streaming,
  traffic,
)
from fedjax_sim.simulation import engine as engine_lib
from fedjax_sim.simulation import plan as plan_lib
from fedjax_sim.simulation.client_store import ClientStore
from fedjax_sim.simulation.engine import SimulationState

# Rounds that one compiled program can take at once. It holds only their plan
# and their metrics, so it is generous; how many run at once is chosen by time.
_CAPACITY = 128
# But a plan has a slot for each of a round's clients on each device.
_PLAN_SLOTS = 2 ** 22

# Dispatches are made about this long: short enough for progress and Ctrl-C,
# long enough that the host's part of it doesn't show.
_DISPATCH_SECONDS = 1.0

# Where training examples can lie, see `simulate`.
EXAMPLES = ('auto', 'owned')

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
        random.named(key, 'model'), _first_inputs(self.train))
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
    return ownership.rebase(plan, self.train) if self.owned else plan

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
      loads = streaming.load(
          plan, count, np.ones_like(plan.sizes), self.state_rows)
      plan, count = plan._replace(rows=loads.places), loads.num_rounds
      clients = loads.clients
    if examples is None:
      loads = streaming.load(plan, count, plan.sizes, self.buffer_rows)
      plan, count = plan._replace(offsets=loads.places), loads.num_rounds
      examples = streaming.put(
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
    memory.check(program, self.placement.size, self.lanes)
    return program

  def bytes_per_client(self) -> traffic.Traffic:
    """Bytes that a client receives and sends in a round, uncompressed."""
    variables = jax.eval_shape(
        self.model.init, jax.random.key(0), _first_inputs(self.train))
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
        held = held or client_rows.put(
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
        client_rows.take_back(
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
    return rows_lib.row(window.start + i + 1, one, window.evaluate[i]) | {
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
      if rows_lib.is_good(jax.tree.map(lambda x, i=i: x[i], outputs)):
        continue
      cohort = self.sampler.sample(row['round'] - 1)
      names = [self.train.client_ids[c] for c in cohort]
      return DivergenceError(row['round'], names, rows[:i - first])
    return None


def build(
    model: Model,
    algorithm: FederatedAlgorithm,
    train: FederatedData,
    sampler: sampling.Sampler,
    *,
    test: PyTree | None = None,
    seed: int = 0,
    devices: int | str = 'auto',
    lanes: int | str = 'auto',
    examples: str = 'auto',
    client_state: str = 'auto',
    eval_batch_size: int = 1000,
) -> Simulation:
  """Puts a simulation together; see `simulate` for the arguments."""
  checks.one_of('examples', examples, EXAMPLES)
  checks.one_of('client_state', client_state, client_rows.CHOICES)
  if sampler.num_clients != train.num_clients:
    raise ValueError(
        f'the sampler draws from num_clients = {sampler.num_clients}, the '
        f'federation has {train.num_clients}.')
  for name, value in (('lanes', lanes), ('devices', devices)):
    checks.positive_int_or_auto(name, value)
  for name, tree in (('train', train.examples), ('test', test)):
    if tree is not None:
      validation.check_examples(model, name, tree)
  evaluate = lambda variables, eval_data: {}
  batched = None
  if test is not None:
    batched = evaluation.in_batches(test, eval_batch_size)
    evaluate = evaluation.evaluator(model)
  shapes = jax.eval_shape(
      model.init, jax.random.key(0), _first_inputs(train))
  local_steps = np.asarray(algorithm.local_steps(train.sizes))
  rows = streaming.buffer_rows(train, sampler.max_cohort)
  states = engine_lib.client_states(algorithm, train, shapes)
  # Arrays are put on a number of devices once, whatever the lanes.
  owned = examples == 'owned'
  placed = functools.cache(
      lambda count: _Placed.make(count, train, batched, owned))

  def make(devices: int, lanes: int) -> Simulation:
    placement, held, eval_data = placed(devices)
    state_rows = None
    if client_rows.is_stored(
        client_state, states, train.num_clients, devices):
      state_rows = client_rows.buffer_rows(
          states, train.num_clients, devices, sampler.max_cohort)
    key = jax.jit(lambda: jax.random.key(seed),
                  out_shardings=placement.everywhere)()
    engine = engine_lib.build_engine(
        algorithm, train, shapes, placement=placement,
        examples=placement.split() if owned or held is None
        else placement.everywhere, lanes=lanes,
        cohort_size=sampler.max_cohort, owned=owned, rows=state_rows,
        evaluate=evaluate)
    return Simulation(
        model, algorithm, train, sampler, engine, placement, lanes, 'given',
        local_steps, seed, key, held, owned, rows, state_rows, eval_data, {})

  if owned and devices == 'auto':  # One device would own all.
    devices = min(len(jax.devices()), train.num_clients)
  chosen, reason = lanes_lib.choose(make, sampler.max_cohort, devices, lanes)
  return chosen._replace(lanes_reason=reason)


class _Placed(NamedTuple):
  """What lies on the devices and doesn't change."""

  placement: sharding.Placement
  examples: PyTree | None
  eval_data: evaluation.EvalData | None

  @classmethod
  def make(cls, devices: int, train, batched, owned) -> '_Placed':
    placement = sharding.place(devices)
    if batched is not None:
      batched = sharding.put(
          evaluation.fill_up(batched, devices), placement.split())
    if owned:
      examples = ownership.put(train, placement)
    elif mapped.is_mapped(train):  # Taken to be too large for the devices.
      examples = None
    else:
      examples = sharding.put(train.examples, placement.everywhere)
    return cls(placement, examples, batched)


def _first_inputs(train: FederatedData) -> PyTree:
  return jax.tree.map(lambda x: x[:1], train.examples['x'])


class Result(NamedTuple):
  """What `simulate` returns.

  Attributes:
    state: the `SimulationState` after the last round. Its `clients` are a
      `ClientStore` where they were stored on disk, in a file that is gone with
      it.
    rows: a dict for each round: `round` (from 1), `train/loss`, `test/loss`,
      `test/accuracy` (where evaluated), `clients`, `seconds`.
  """

  state: SimulationState
  rows: list[Row]

  @property
  def variables(self) -> Variables:
    """The global model; of an algorithm with several, all of them."""
    return self.state.server.variables

  def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rounds and values of a metric where it was measured."""
    points = [(row['round'], row[name]) for row in self.rows if name in row]
    if not points:
      names = sorted({key for row in self.rows for key in row})
      raise ValueError(
          f'no row has metric {name!r}; there are {", ".join(names)}.')
    rounds, values = zip(*points, strict=True)
    return np.array(rounds), np.array(values)


def simulate(
    model: Model,
    algorithm: FederatedAlgorithm,
    train: FederatedData,
    *,
    rounds: int,
    clients_per_round: int | None = None,
    client_fraction: float | None = None,
    test: PyTree | None = None,
    eval_every: int = 1,
    seed: int = 0,
    devices: int | str = 'auto',
    lanes: int | str = 'auto',
    examples: str = 'auto',
    client_state: str = 'auto',
    rounds_per_dispatch: int | None = None,
    on_dispatch: Callable[[list[Row]], None] = lambda rows: None,
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
    eval_every: evaluate after every so many rounds, and after the last.
    seed: of initial weights, cohorts, orders, dropout.
    devices: how many of `jax.devices()` share a round's clients, or 'auto' to
      measure whether all or one are faster here, which takes up to a minute the
      first time; doesn't change the result, up to the order of summation.
      `use_all_cores` makes a device of each core.
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
    on_dispatch: called with the new rows, to print or to plot.

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
      model, algorithm, train, sampler, test=test, seed=seed, devices=devices,
      lanes=lanes, examples=examples, client_state=client_state)
  initial = simulation.init()
  rows = []
  for state, new_rows in simulation.dispatches(  # noqa: B007
      simulation.compile(initial), initial, rounds,
      evaluate=plan_lib.evaluate_after(eval_every, rounds),
      rounds_per_dispatch=rounds_per_dispatch):
    rows += new_rows
    on_dispatch(new_rows)
  return Result(sharding.gather(state), rows)

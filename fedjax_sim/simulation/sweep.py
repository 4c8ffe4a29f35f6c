"""Sweeps: whole runs side by side, over seeds and numeric hyperparameters.

The members of a sweep share a program and the data; each has its own weights,
cohorts, orders and hyperparameters, and gives what a run of its own would give,
to float tolerance. One that diverges is left as it is; any can be dropped.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from fedjax_sim.core import checks, compilation, random
from fedjax_sim.core.types import FederatedAlgorithm, Model, PyTree
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation import (
  check_examples,
  evaluation,
  records,
  sweep_program,
)
from fedjax_sim.simulation import plan as plan_lib
from fedjax_sim.simulation import simulate as simulate_lib
from fedjax_sim.simulation.engine import Rounds, SimulationState
from fedjax_sim.simulation.placement import device_memory, sharding

_CAPACITY = 128
# A dispatch is about this long where rounds are short …
_DISPATCH_SECONDS = 2.0
# … and where they are long it takes no more members than this allows.
_LONGEST_SECONDS = 15.0

MakeAlgorithm = Callable[..., FederatedAlgorithm]


class Member(NamedTuple):
  """One run of a sweep.

  Attributes:
    seed: of initial weights, cohorts, orders, dropout.
    hyperparameters: the arguments that make its algorithm, numbers.
    federation: which of the sweep's federations it trains on.
  """

  seed: int
  hyperparameters: Mapping[str, float]
  federation: int = 0


class SweepState(NamedTuple):
  """Where a sweep is; a checkpoint of it is this.

  Attributes:
    states: SimulationState [rows, ...] on the devices.
    members: int32 [rows], whose state a row is; -1 in an empty row.
    done: int32 [rows], the rounds that it has done.
  """

  states: SimulationState
  members: np.ndarray
  done: np.ndarray

  def of(self, member: int) -> SimulationState:
    """The state of one member."""
    (row,) = np.flatnonzero(self.members == member)
    return jax.tree.map(lambda x: x[row], self.states)


class Progress(NamedTuple):
  """What a dispatch has done.

  Attributes:
    state: after it.
    rows: member -> its new rows, as `simulator.Result` has them; good ones.
    diverged: member -> the round in which a NaN or infinity came up.
  """

  state: SweepState
  rows: dict[int, list[records.Row]]
  diverged: dict[int, int]


class Sweep(NamedTuple):
  """A sweep's program, and the data it runs on; for any members of a number.

  Attributes:
    model: the model.
    make_algorithm: `(**hyperparameters) -> FederatedAlgorithm`; the same
      structure whatever the numbers.
    federations: of the same numbers of clients.
    cohort_size: M.
    example: hyperparameters of one member.
    placement: the devices.
    lanes: W.
    together: members that a device computes side by side.
    examples: those of all federations, one behind the other, on the devices.
    eval_data: the test set on the devices, or None.
    size: rows, the members that there is room for, a multiple of the devices.
    evaluate: `(Variables, eval_data) -> MetricSums`.
    capacity: R, the rounds that are planned at once.
    programs: what has been compiled.
  """

  model: Model
  make_algorithm: MakeAlgorithm
  federations: tuple[FederatedData, ...]
  cohort_size: int
  example: Mapping[str, float]
  placement: sharding.Placement
  lanes: int
  together: int
  examples: PyTree
  eval_data: evaluation.EvalData | None
  size: int
  evaluate: Callable
  capacity: int
  programs: dict[str, jax.stages.Compiled]

  def rounds(self, hyperparameters) -> Rounds:
    """The rounds of one member."""
    sizes = np.concatenate([f.sizes for f in self.federations])
    return Rounds(
        self.make_algorithm(**hyperparameters),
        self.federations[0].num_clients, 1, int(sizes.max()),
        bool(np.ptp(sizes) > 0 or self.cohort_size % self.lanes),
        self.cohort_size + self.lanes - 1,
        self.federations[0].num_clients, self.evaluate)

  def init(self, members: Sequence[Member]) -> SweepState:
    """The state before the first round."""
    if not 1 <= len(members) <= self.size:
      raise ValueError(
          f'there must be 1 to {self.size} members, got {len(members)}.')
    first = jax.tree.map(lambda x: x[:1], self.federations[0].examples)

    def one(args):
      key, hyperparameters = args
      variables = self.model.init(random.named(key, 'model'), first['x'])
      return self.rounds(hyperparameters).init(first, variables, key)

    # Round robin: whatever their number, no device has two more than another.
    rows = np.arange(self.size).reshape(-1, self.placement.size).T.ravel()
    owner = np.where(rows < len(members), rows, -1).astype(np.int32)
    states = jax.jit(
        lambda keys, numbers: jax.lax.map(one, (keys, numbers)),
        out_shardings=self.placement.split())(
            *self._numbers(members, owner))
    return SweepState(states, owner, np.zeros(self.size, np.int32))

  def dispatches(
      self,
      members: Sequence[Member],
      state: SweepState,
      stop: int,
      active: set[int],
      *,
      evaluate: Callable[[int], bool] = lambda r: True,
  ) -> Iterator[Progress]:
    """Runs rounds up to number `stop`, some of them and some members at a time.

    Args:
      members: as given to `init`.
      state: where to start.
      stop: the number of rounds done at the end.
      active: who is to run; members may be taken out between dispatches. The
        generator itself takes out who diverges.
      evaluate: round (from 0) -> whether to evaluate after it.

    Yields:
      A `Progress` for each dispatch. With long rounds a dispatch may hold a
      part of the members only; those that are behind come first.
    """
    program, window, seconds, count = None, None, None, 1
    dealt = None
    while True:
      here = np.isin(state.members, list(active)) & (state.done < stop)
      if not here.any():
        return
      if dealt != active:
        state, dealt, window = self._deal(state, active), set(active), None
        here = np.isin(state.members, list(active)) & (state.done < stop)
      start = int(state.done[here].min())
      if window is None or start >= window.start + self.capacity:
        window = self._window(members, state, start, active, evaluate)
      here &= state.done == start
      if seconds is not None:
        here = self._fewer(here, seconds)
        count = max(1, min(2 * count, int(_DISPATCH_SECONDS / (
            seconds * here.sum()))))
      count = min(count, stop - start, window.start + self.capacity - start)
      args = self._arguments(
          members, state, window, here, start - window.start, count)
      if program is None:
        program = self._compile(args)
      begun = time.perf_counter()
      states, outputs = jax.block_until_ready(program(*args))
      took = time.perf_counter() - begun
      seconds = took / count / here.sum()
      state = SweepState(states, state.members, state.done + count * here)
      progress = self._progress(
          state, jax.device_get(outputs), window, here, start, count, took)
      active.difference_update(progress.diverged)
      yield progress

  def _deal(self, state: SweepState, active: set[int]) -> SweepState:
    """Spreads who is active over the devices."""
    running = np.isin(state.members, list(active))
    per_device = running.reshape(self.placement.size, -1).sum(axis=1)
    if np.ptp(per_device) < 2:
      return state
    order = np.argsort(~running, kind='stable')
    order = order.reshape(-1, self.placement.size).T.ravel()
    moved = jax.jit(
        lambda tree: jax.tree.map(lambda x: x[order], tree),
        out_shardings=self.placement.split())(state.states)
    return SweepState(moved, state.members[order], state.done[order])

  def _fewer(self, here: np.ndarray, seconds: float) -> np.ndarray:
    """So few members that one round of them is not too long a dispatch."""
    most = max(1, int(_LONGEST_SECONDS / (seconds * self.placement.size)))
    by_device = here.reshape(self.placement.size, -1)
    return (by_device & (np.cumsum(by_device, axis=1) <= most)).ravel()

  def _window(self, members, state, start, active, evaluate) -> '_Window':
    """Plans rounds from `start` on for whoever is active."""
    plans = {}
    for i in sorted(active):
      name = members[i].seed, members[i].federation
      if name not in plans:
        plans[name] = self._plan(*name, start)
    empty = jax.tree.map(np.zeros_like, next(iter(plans.values())))
    chosen = [plans[members[i].seed, members[i].federation]
              if i in active else empty for i in state.members]
    stacked = jax.tree.map(lambda *x: np.stack(x), *chosen)
    flags = np.array([evaluate(start + i) for i in range(self.capacity)])
    placed = sharding.put(
        stacked._replace(evaluate=()), self.placement.split())
    return _Window(start, placed, flags)

  def _plan(self, seed: int, federation: int, start: int) -> plan_lib.Plan:
    """Rounds from `start` on of one member."""
    data = self.federations[federation]
    sampler = sampling.uniform(data.num_clients, self.cohort_size, seed)
    before = sum(f.num_examples for f in self.federations[:federation])
    cohorts = [sampler.sample(start + i) for i in range(self.capacity)]
    return plan_lib.plan_rounds(
        cohorts, [False] * self.capacity, self.local_steps(federation),
        data.offsets + before, lanes=self.lanes,
        num_blocks=plan_lib.blocks_for(self.cohort_size, self.lanes),
        num_rounds=self.capacity)

  def local_steps(self, federation: int) -> np.ndarray:
    """int [N], of every client."""
    algorithm = self.make_algorithm(**self.example)
    return np.asarray(
        algorithm.local_steps(self.federations[federation].sizes))

  def _numbers(self, members, owner) -> tuple[jax.Array, dict]:
    """Keys and hyperparameters of the rows."""
    own = [members[max(i, 0)] for i in owner]
    keys = jax.vmap(jax.random.key)(
        np.array([m.seed for m in own], np.uint32))
    numbers = {name: np.array([m.hyperparameters[name] for m in own],
                              np.float32) for name in self.example}
    split = self.placement.split()
    return jax.device_put(keys, split), sharding.put(numbers, split)

  def _arguments(self, members, state, window, here, first, count):
    """What the program is called with."""
    keys, numbers = self._numbers(members, state.members)
    taking = sweep_program.Members(state.states, window.plans, numbers, keys)
    turn = sweep_program.turn(here, self.placement.size, self.together)
    split, everywhere = self.placement.split(), self.placement.everywhere
    return (self.examples, taking, sharding.put(window.evaluate, everywhere),
            sharding.put(turn, split), np.int32(first),
            np.int32(first + count), self.eval_data)

  def _compile(self, args) -> jax.stages.Compiled:
    """The program, compiled once."""
    if 'rounds' not in self.programs:
      self.programs['rounds'] = sweep_program.program(
          self.rounds, self.placement).lower(*args).compile(
              compiler_options=compilation.options())
      device_memory.check(
          self.programs['rounds'], self.placement.size, self.lanes)
    return self.programs['rounds']

  def _progress(
      self, state, outputs, window, here, start, count, took) -> Progress:
    """Rows of whoever ran."""
    rows, diverged = {}, {}
    for row in np.flatnonzero(here):
      member, own = int(state.members[row]), []
      for r in range(start, start + count):
        one = jax.tree.map(
            lambda x, row=row, i=r - window.start: x[row, i], outputs)
        if not records.is_good(one):
          diverged[member] = r + 1
          break
        own.append(
            records.row(r + 1, one, window.evaluate[r - window.start])
            | {'seconds': took / count / here.sum()})
      rows[member] = own
    return Progress(state, rows, diverged)


class _Window(NamedTuple):
  """Planned rounds.

  Attributes:
    start: the first one.
    plans: Plan [rows, R, 1, blocks, W] on the devices, without `evaluate`.
    evaluate: bool [R].
  """

  start: int
  plans: plan_lib.Plan
  evaluate: np.ndarray


def build(
    model: Model,
    make_algorithm: MakeAlgorithm,
    federations: Sequence[FederatedData],
    *,
    cohort_size: int,
    num_members: int,
    example: Mapping[str, float],
    test: PyTree | None = None,
    devices: int | str = 'auto',
    lanes: int | str = 'auto',
    together: int | str = 'auto',
    eval_batch_size: int = 1000,
) -> Sweep:
  """Puts a sweep together.

  Args:
    model: the model.
    make_algorithm: `(**hyperparameters) -> FederatedAlgorithm`, called with
      traced numbers.
    federations: what members train on; as many clients and the same kind of
      examples in all.
    cohort_size: M.
    num_members: the most that there will be at once.
    example: hyperparameters of one member.
    test: PyTree [E, ...] of test examples, None for no evaluation.
    devices: D, or 'auto' for as many as can be of use.
    lanes: W; 'auto' is 1 on a CPU, and all of a cohort elsewhere.
    together: members that a device computes side by side; 'auto' is 1 on a
      CPU, and all elsewhere.
    eval_batch_size: examples at once.

  Raises:
    ValueError: an argument is out of range, or data don't fit the model.
  """
  for name, value in (('devices', devices), ('lanes', lanes),
                      ('together', together)):
    checks.positive_int_or_auto(name, value)
  checks.positive_int('num_members', num_members)
  _check_federations(federations)
  for data in federations:
    check_examples.check_examples(model, 'train', data.examples)
  evaluate, eval_data = (lambda variables, eval_data: {}), None
  if test is not None:
    check_examples.check_examples(model, 'test', test)
    evaluate = evaluation.evaluator(model)
  cpu = jax.default_backend() == 'cpu'
  if devices == 'auto':
    devices = min(len(jax.local_devices()), num_members)
  if lanes == 'auto':
    lanes = 1 if cpu else cohort_size
  size = -(-num_members // devices) * devices
  if together == 'auto':
    together = 1 if cpu else size // devices
  placement = sharding.place(devices)
  everywhere = placement.everywhere
  if test is not None:
    eval_data = sharding.put(
        evaluation.in_batches(test, eval_batch_size), everywhere)
  examples = sharding.put(jax.tree.map(
      lambda *x: np.concatenate(x), *(f.examples for f in federations)),
      everywhere)
  return Sweep(
      model, make_algorithm, tuple(federations), cohort_size, dict(example),
      placement, min(lanes, cohort_size), together, examples, eval_data, size,
      evaluate, _CAPACITY, {})


def _check_federations(federations: Sequence[FederatedData]) -> None:
  if not federations:
    raise ValueError('there must be at least one federation, got none.')
  counts = {f.num_clients for f in federations}
  if len(counts) > 1:
    raise ValueError('federations must have the same number of clients, got '
                     f'{sorted(counts)}.')


def sweep(
    model: Model,
    make_algorithm: MakeAlgorithm,
    train: FederatedData,
    *,
    rounds: int,
    seeds: Sequence[int],
    learning_rates: Sequence[float],
    clients_per_round: int | None = None,
    client_fraction: float | None = None,
    test: PyTree | None = None,
    eval_every: int = 1,
    devices: int | str = 'auto',
    lanes: int | str = 'auto',
    on_dispatch: Callable[[Progress], None] = lambda progress: None,
) -> dict[tuple[int, float], simulate_lib.Result]:
  """`simulate` for every seed and every client learning rate.

  All runs share the federation; a seed sets initial weights, cohorts, orders
  and dropout.

  Args:
    model: the model.
    make_algorithm: client learning rate -> FederatedAlgorithm, such as
      `lambda rate: fedavg(model, optax.sgd(rate))`.
    train: the federation.
    rounds: how many.
    seeds: distinct whole numbers.
    learning_rates: distinct positive numbers.
    clients_per_round: as in `simulate`, like the next ones.
    client_fraction: of the clients.
    test: test examples.
    eval_every: rounds.
    devices: D.
    lanes: W.
    on_dispatch: called after each dispatch; members are numbered rates first.

  Returns:
    (seed, rate) -> Result. One that has diverged ends with its last good round;
    its state is not finite.

  Raises:
    ValueError: an argument is out of range, or data don't fit the model.
  """
  checks.positive_int('rounds', rounds)
  checks.positive_int('eval_every', eval_every)
  for name, values, check in (
      ('seeds', seeds, lambda n, v: checks.at_least(n, v, 0)),
      ('learning_rates', learning_rates, checks.positive)):
    if not values or len(set(values)) != len(values):
      raise ValueError(f'{name} must be distinct, and at least one, got '
                       f'{list(values)}.')
    for value in values:
      check(name, value)
  cohort = sampling.cohort_size(
      train.num_clients, clients_per_round=clients_per_round,
      client_fraction=client_fraction)
  members = [Member(seed, {'rate': rate})
             for seed in seeds for rate in learning_rates]
  runs = build(
      model, lambda rate: make_algorithm(rate), [train], cohort_size=cohort,
      num_members=len(members), example=members[0].hyperparameters, test=test,
      devices=devices, lanes=lanes)
  state, rows = runs.init(members), [[] for _ in members]
  for progress in runs.dispatches(
      members, state, rounds, set(range(len(members))),
      evaluate=plan_lib.evaluate_after(eval_every, rounds)):
    for i, own in progress.rows.items():
      rows[i] += own
    state = progress.state
    on_dispatch(progress)
  return {(m.seed, m.hyperparameters['rate']): simulate_lib.Result(
      state.of(i), rows[i]) for i, m in enumerate(members)}

"""Sweeps: whole runs side by side, over seeds and numeric hyperparameters.

The members of a sweep share a program and the data; each has its own weights,
cohorts, orders and hyperparameters, and gives what a run of its own would give,
to float tolerance.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from fedjax_sim.core import checks, compilation, frozen, random
from fedjax_sim.core.types import (
    FederatedAlgorithm,
    Model,
    PyTree,
    Variables,
)
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation import (
    asynchronous,
    check_examples,
    check_model,
    check_topology,
    evaluation,
    fitting,
    in_time,
    sweep_program,
)
from fedjax_sim.simulation import plan as plan_lib
from fedjax_sim.simulation import traffic as traffic_lib
from fedjax_sim.simulation.exchange_types import Asked
from fedjax_sim.simulation.placement import sharding
from fedjax_sim.simulation.program import Program
from fedjax_sim.simulation.rounds import (
    Rounds,
    SimulationState,
    no_evaluation,
)
from fedjax_sim.simulation.sweep_types import Member, SweepState

_CAPACITY = 128

MakeAlgorithm = Callable[..., FederatedAlgorithm]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
  """A sweep's program, and the data it runs on; for any members of a number.

  Attributes:
    model: the model.
    make_algorithm: `(**hyperparameters) -> FederatedAlgorithm`; the same
      structure whatever the numbers.
    make_rounds: hyperparameters -> the rounds of one member.
    program: that of `sweep_program.build`.
    federations: of the same numbers of clients.
    cohort_size: M.
    make_sampler: seed -> who takes part.
    example: hyperparameters of one member.
    placement: the devices.
    lanes: W.
    together: members that a device computes side by side.
    examples: those of all federations, one behind the other, on the devices.
    eval_data: evaluation sets by name, on the devices.
    size: places for members, a multiple of the devices.
    capacity: R, the rounds that are planned at once.
    systems: what makes rounds take time; None for nothing.
  """

  model: Model
  make_algorithm: MakeAlgorithm
  make_rounds: Callable[[Mapping[str, float]], Rounds]
  program: Program
  federations: tuple[FederatedData, ...]
  cohort_size: int
  make_sampler: Callable[[int], sampling.Sampler]
  example: Mapping[str, float]
  placement: sharding.Placement
  lanes: int
  together: int
  examples: PyTree
  eval_data: dict[str, evaluation.EvalData]
  size: int
  capacity: int
  systems: in_time.Systems | None = None

  @functools.cached_property
  def frozen(self) -> PyTree:
    """The model's frozen weights on the devices, None if it has none."""
    inputs = jax.tree.map(lambda x: x[:1], self.federations[0].examples['x'])
    return sharding.to_devices(
        frozen.of(self.model, inputs), self.placement.everywhere)

  def init(self, members: Sequence[Member]) -> SweepState:
    """The state before the first round."""
    if not 1 <= len(members) <= self.size:
      raise ValueError(
          f'there must be 1 to {self.size} members, got {len(members)}.')
    # Round robin: whatever their number, no device has two more than another.
    places = np.arange(self.size).reshape(-1, self.placement.size).T.ravel()
    owner = np.where(places < len(members), places, -1).astype(np.int32)
    states = self.on_devices(
        self.numbers(members, owner), self._differing_counts(members, owner))
    return SweepState(states, owner, np.zeros(self.size, np.int32),
                      np.zeros(len(members)) if self.systems else ())

  def on_devices(
      self, numbers: tuple[jax.Array, dict[str, jax.Array]],
      counts: np.ndarray | None = None,
  ) -> SimulationState:
    """`first_states` where the program takes them."""
    return jax.jit(self.first_states, out_shardings=self.placement.split())(
        *numbers, counts)

  def first_states(
      self, keys, numbers, counts: jax.Array | None = None
  ) -> SimulationState:
    """The states [places, ...] before the first round.

    Args:
      keys: as `numbers` gives them.
      numbers: likewise.
      counts: what `_differing_counts` gives.
    """
    first = jax.tree.map(lambda x: x[:1], self.federations[0].examples)
    common = _num_with_examples(self.federations[0])

    def one(args):
      key, hyperparameters, count = args
      variables = self.model.init(random.named(key, 'model'), first['x'])
      return self.make_rounds(hyperparameters).init(
          first, variables, key, common if count is None else count)

    return jax.lax.map(one, (keys, numbers, counts))

  def _differing_counts(
      self, members: Sequence[Member], owner: np.ndarray
  ) -> np.ndarray | None:
    """Clients with examples, for each place; None if they are the same."""
    counts = np.array([_num_with_examples(f) for f in self.federations])
    if np.ptp(counts) == 0:
      return None
    return counts[[members[max(i, 0)].federation for i in owner]].astype(
        np.int32)

  def numbers(
      self, members: Sequence[Member], owner: np.ndarray
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Keys and hyperparameters of the members in the places."""
    held = [members[max(i, 0)] for i in owner]
    keys = random.root_keys([m.seed for m in held])
    numbers = {name: np.array([m.hyperparameters[name] for m in held],
                              np.float32) for name in self.example}
    split = self.placement.split()
    return jax.device_put(keys, split), sharding.to_devices(numbers, split)

  @functools.cached_property
  def keeps_states(self) -> bool:
    """Whether the algorithm or a transform keeps a state of each client."""
    first = jax.tree.map(lambda x: x[:1], self.federations[0].examples)

    def init(key):
      return self.make_rounds(self.example).init(
          first, self.model.init(key, first['x']), key)

    state = jax.eval_shape(init, jax.random.key(0))
    return bool(jax.tree.leaves((state.clients, state.transforms)))

  @functools.cached_property
  def timelines(self) -> dict[tuple[int, int], in_time.Known]:
    """(seed, federation) -> rounds in simulated time, of those asked for."""
    return {}

  def timeline(self, seed: int, federation: int) -> in_time.Known | None:
    """Rounds in simulated time of members with a seed and a federation."""
    if self.systems is None:
      return None
    known = self.timelines
    if (seed, federation) not in known:
      known[seed, federation] = self.systems.timeline(
          self.make_algorithm(**self.example), self.federations[federation],
          self.variables, self.make_sampler(seed), seed)
    return known[seed, federation]

  def plan_of(
      self, seed: int, federation: int, start: int, count: int
  ) -> plan_lib.Plan:
    """Plans rounds of members with a seed, without evaluation."""
    known = self.timeline(seed, federation)
    sampler = self.make_sampler(seed) if known is None else known.as_sampler()
    return self.plan(
        [sampler.sample(start + i) for i in range(count)], federation, start,
        **in_time.outcomes(known, start, count, always=True))

  def plan(
      self, cohorts: Sequence[np.ndarray], federation: int, start: int = 0,
      **outcomes,
  ) -> plan_lib.Plan:
    """Plans rounds from `start` with these cohorts, without evaluation."""
    data = self.federations[federation]
    before = sum(f.num_examples for f in self.federations[:federation])
    return plan_lib.plan_rounds(
        cohorts, [], self.local_steps(federation), data.offsets + before,
        lanes=self.lanes,
        num_blocks=plan_lib.blocks_for(self.cohort_size, self.lanes),
        num_rounds=self.capacity, start=start, once=self.keeps_states,
        **outcomes)

  def local_steps(self, federation: int) -> np.ndarray:
    """int [N], of every client."""
    algorithm = self.make_algorithm(**self.example)
    return np.asarray(
        algorithm.local_steps(self.federations[federation].sizes))

  def bytes_per_client(self) -> traffic_lib.Traffic:
    """Bytes that a client receives and sends in a round, uncompressed."""
    return traffic_lib.per_client(
        self.make_algorithm(**self.example), self.federations[0].examples,
        self.variables)

  @functools.cached_property
  def variables(self) -> Variables:
    """The model's, as shapes."""
    return jax.eval_shape(
        self.model.init, jax.random.key(0), jax.tree.map(
            lambda x: x[:1], self.federations[0].examples['x']))


def build(
    model: Model,
    make_algorithm: MakeAlgorithm,
    federations: Sequence[FederatedData],
    *,
    cohort_size: int,
    num_members: int,
    example: Mapping[str, float],
    make_sampler: Callable[[int], sampling.Sampler] | None = None,
    test: PyTree | None = None,
    devices: int | str = 'auto',
    lanes: int | str = 'auto',
    together: int | str = 'auto',
    precision: str = 'auto',
    eval_batch_size: int = 1000,
    systems: in_time.Systems | None = None,
    say: Callable[[str], None] = lambda text: None,
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
    make_sampler: seed -> who takes part; None draws uniformly.
    test: PyTree [E, ...] of test examples, None for no evaluation.
    devices: D, or 'auto' for as many as can be of use.
    lanes: W; 'auto' is 1 on a CPU, and all of a cohort elsewhere.
    together: members that a device computes side by side; 'auto' is 1 on a
      CPU, and elsewhere all, a half of them, a quarter, …: what the memory
      holds.
    precision: of products, see `core/products.py`.
    eval_batch_size: examples at once.
    systems: what makes rounds take time; None for nothing.
    say: told what a user may want to know.

  Raises:
    ValueError: an argument is out of range, or data don't fit the model.
  """
  compilation.keep_programs()
  for name, value in (('devices', devices), ('lanes', lanes),
                      ('together', together)):
    checks.positive_int_or_auto(name, value)
  checks.positive_int('num_members', num_members)
  check_examples.check_federations(federations)
  if make_sampler is not None:
    sampling.check(make_sampler(0), federations[0].num_clients)
  sets = {} if test is None else {'test': check_examples.as_set('test', test)}
  for data in federations:
    check_examples.check_examples(model, data, sets)
  check_model.check_model(model, federations[0].examples)
  evaluate, eval_data = no_evaluation, {}
  if test is not None:
    evaluate = evaluation.of_sets(model)
  if devices == 'auto':
    devices = min(len(jax.local_devices()), num_members)
  placement = sharding.place(devices, precision)
  cpu = placement.platform == 'cpu'
  wanted = cohort_size
  if systems is not None:
    cohort_size = min(systems.reporting.chosen(cohort_size),
                      max(cohort_size, federations[0].num_clients))
  check_topology.check(
      make_algorithm(**example), federations[0].num_clients, wanted,
      make_sampler and make_sampler(0), systems is not None)
  if lanes == 'auto':
    lanes = 1 if cpu else cohort_size
  lanes = min(lanes, cohort_size)
  size = -(-num_members // devices) * devices
  everywhere = placement.everywhere
  if test is not None:
    eval_data = sharding.to_devices(
        {'test': evaluation.in_batches(sets['test'], eval_batch_size)},
        everywhere)
  examples = sharding.to_devices(jax.tree.map(
      lambda *x: np.concatenate(x), *(f.examples for f in federations)),
      everywhere)
  asynchronous.check(make_algorithm(**example), systems, wanted)
  asynchronous.check_memory(
      model, make_algorithm(**example), systems, wanted, federations[0],
      runs=size if cpu else size // devices)
  make_sampler = make_sampler or (lambda seed: sampling.uniform(
      federations[0].num_clients, wanted, seed))
  sampler = make_sampler(0)
  make_rounds = _make_rounds(
      make_algorithm, federations, cohort_size, lanes=lanes, evaluate=evaluate,
      versions=in_time.versions(systems, wanted),
      may_be_idle=any(sampler.may_be_idle(f.sizes) for f in federations),
      asked=Asked(bits=systems is not None))

  def make(together: int) -> Sweep:
    sweep = Sweep(
        model=model, make_algorithm=make_algorithm, make_rounds=make_rounds,
        program=Program(
            trace=lambda: _trace(sweep), placement=placement, lanes=lanes,
            idle=lambda: _arguments(sweep, sweep.on_devices(_numbers(sweep)))),
        federations=tuple(federations), cohort_size=cohort_size,
        make_sampler=make_sampler, example=dict(example),
        placement=placement, lanes=lanes, together=together, examples=examples,
        eval_data=eval_data, size=size, capacity=_CAPACITY, systems=systems)
    return sweep

  if together != 'auto' or cpu:
    return make(1 if together == 'auto' else together)
  return fitting.most_together(make, size // devices, say)


def _num_with_examples(data: FederatedData) -> int:
  return int(np.sum(data.sizes > 0))


def _make_rounds(
    make_algorithm, federations, cohort_size: int, *, lanes: int, **fields
) -> Callable[[Mapping[str, float]], Rounds]:
  """Hyperparameters -> the rounds of one member; `fields` are further ones."""
  sizes = np.concatenate([f.sizes for f in federations])
  num_clients = federations[0].num_clients
  return lambda hyperparameters: Rounds(
      algorithm=make_algorithm(**hyperparameters), num_clients=num_clients,
      devices=1, max_size=int(sizes.max()),
      ragged=bool(np.ptp(sizes) > 0 or cohort_size % lanes),
      cohort_size=cohort_size, num_states=num_clients, **fields)


def _trace(sweep: Sweep) -> jax.stages.Traced:
  """The program, from the shapes of what it will take."""
  states = jax.eval_shape(sweep.first_states, *_numbers(sweep))
  return sweep_program.build(sweep.make_rounds, sweep.placement).trace(
      *_arguments(sweep, states))


def _numbers(sweep: Sweep) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Those of the example, in all places."""
  return sweep.numbers(
      [Member(0, sweep.example)], np.zeros(sweep.size, np.int32))


def _arguments(sweep: Sweep, states: SimulationState) -> tuple:
  """What the program takes, with no round to be done and nobody's turn."""
  keys, numbers = _numbers(sweep)
  slots = jax.tree.map(
      lambda x: np.zeros((sweep.size, *x.shape), x.dtype),
      sweep.plan_of(0, 0, 0, 0).slots)
  turn = sweep_program.turn(
      np.zeros(sweep.size, bool), sweep.placement.size, sweep.together)
  put, split = sharding.to_devices, sweep.placement.split()
  return (sweep.examples,
          sweep_program.Members(states, put(slots, split), numbers, keys),
          put(np.zeros(sweep.capacity, bool), sweep.placement.everywhere),
          put(turn, split), np.int32(0), np.int32(0), sweep.eval_data,
          sweep.frozen)

"""Rounds of an algorithm: pure functions, for a program of many of them.

A round is one exchange with its cohort, or several (`exchange`), and then the
server's step. Nothing crosses between host and device inside.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.core import costs, frozen, random, trees
from fedjax_sim.core.types import (
    FederatedAlgorithm,
    Message,
    MetricSums,
    PyTree,
    ServerState,
    Slot,
    Variables,
)
from fedjax_sim.simulation import downward, exchange, gossip, versions
from fedjax_sim.simulation.exchange import Exchange
from fedjax_sim.simulation.exchange_types import (
    AggregatorState,
    Asked,
    Faults,
    Heard,
    Held,
    Surroundings,
    Told,
)
from fedjax_sim.simulation.placement import collectives
from fedjax_sim.simulation.plan import Plan


class Evaluate(NamedTuple):
  """What is evaluated, in two steps: sums that devices add up, then numbers.

  Attributes:
    sums: `(Variables, name of an evaluation set -> its data) -> MetricSums of
      each set`, which may be arrays.
    finish: `(the total of these) -> MetricSums of each set`, scalars.
  """

  sums: Callable[[Variables, PyTree], dict[str, MetricSums]]
  finish: Callable[[dict], dict[str, MetricSums]]


no_evaluation = Evaluate(lambda variables, eval_data: {}, lambda totals: totals)


class SimulationState(NamedTuple):
  """Everything that rounds change; a checkpoint is this and the seed.

  Attributes:
    server: the algorithm's server state.
    aggregator: for each exchange of a round, what its aggregation keeps.
    clients: the algorithm's client states, PyTree [N, ...], N rounded up to a
      multiple of the devices; each device has its part of them. Where they are
      stored on disk, the `StoredStates` that holds these and `transforms`; what
      the program takes are then those of some rounds' cohorts.
    transforms: for each exchange of a round, the transforms' memories of
      clients, likewise; `()` where stored.
    host: a `HostState`, `()` where the host keeps nothing. Programs take none.
  """

  server: ServerState
  aggregator: tuple[AggregatorState, ...]
  clients: PyTree
  transforms: PyTree
  host: PyTree = ()


class RoundOutputs(NamedTuple):
  """What is reported of a round; [R, ...] for R rounds.

  Attributes:
    train: MetricSums over the cohort's local training.
    test: MetricSums of each evaluation set, zeros where there was none.
    count: int32 [], clients whose message arrived.
    finite: bool [], the server's variables hold no NaN and no infinity.
    aggregation: 'part/name' -> float32 [], what transforms and reducers tell.
    started: int32 [], clients that took part; None where all messages arrive.
    bits_up: int32 [2], what clients have sent in the exchanges in which it
      differs among them, as `costs.whole` has it; None where each sends the
      same in every round. `traffic` tells that.
    bits_down: int32 [2], what each of them was sent; likewise.
    faults: `Faults` [D, blocks, W], whose loss or update was not finite; None
      where the cohort trained as a whole.
    told: what the host has asked of each slot.
  """

  train: MetricSums
  test: dict[str, MetricSums]
  count: jax.Array
  finite: jax.Array
  aggregation: dict[str, jax.Array]
  started: jax.Array | None = None
  bits_up: jax.Array | None = None
  bits_down: jax.Array | None = None
  faults: Faults | None = None
  told: Told = Told()


class Walked(NamedTuple):
  """What one exchange with a client comes to.

  Attributes:
    message: the client's, before the transforms.
    broadcast: the server's, as clients receive it, or what they are sent parts
      of.
    down: bits that it receives, a Python number unless it varies.
    up: bits that it sends, likewise.
    nominal: of both what is known beforehand: where it varies, the bits of the
      whole message, uncompressed.
  """

  message: Message
  broadcast: PyTree
  down: float | jax.Array
  up: float | jax.Array
  nominal: tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Rounds:
  """The pure functions of rounds, with what is static about them.

  Attributes:
    algorithm: the algorithm.
    num_clients: N.
    devices: D; with several all of this runs inside of `sharding.spread`.
    max_size: most examples of a client.
    ragged: whether clients differ in their number of local steps.
    cohort_size: M, most clients of a round.
    num_states: clients whose state a device holds.
    versions: how many of the newest versions of the model clients may have
      begun with; None where all begin with the newest one.
    may_be_idle: whether there may be rounds in which nobody trains. Those
      whose messages may be lost are always taken for such, those of an
      asynchronous server never.
    evaluate: an `Evaluate`, run after the rounds that the plan marks.
    asked: what is told of each slot.
  """

  algorithm: FederatedAlgorithm
  num_clients: int
  devices: int
  max_size: int
  ragged: bool
  cohort_size: int
  num_states: int
  versions: int | None = None
  may_be_idle: bool = False
  evaluate: Evaluate = no_evaluation
  asked: Asked = Asked()

  @property
  def exchanges(self) -> list[Exchange]:
    """Those of a round, in order."""
    return exchange.exchanges(
        self.algorithm, self.asked, num_clients=self.num_clients,
        devices=self.devices, max_size=self.max_size, ragged=self.ragged,
        cohort_size=self.cohort_size, num_states=self.num_states)

  @property
  def asks_for_places(self) -> bool:
    """Whether anything may read `Slot.place`."""
    transform, reducer, _ = self.algorithm.aggregator
    return not (transform is None and reducer.plain
                and self.algorithm.receive is None)

  def init(
      self, examples, variables: Variables, key,
      num_with_examples: int | jax.Array | None = None,
  ) -> SimulationState:
    """The state before the first round.

    Args:
      examples: shapes of one example [1, ...].
      variables: the model's.
      key: the root key.
      num_with_examples: how many clients have any; None is all of them.
    """
    if num_with_examples is None:
      num_with_examples = self.num_clients
    server = self.algorithm.init(
        variables, random.named(key, 'algorithm'), num_with_examples)
    client_state = self.algorithm.client_init(variables)
    walked = jax.eval_shape(
        lambda examples: [(w.message, w.broadcast) for w in self.walk(
            examples, server, client_state, variables.frozen)], examples)
    messages, broadcasts = zip(*walked, strict=True)
    first = [one.init(message, random.named(key, 'aggregator'))
             for one, message in zip(self.exchanges, messages, strict=True)]
    aggregators, memories = zip(*first, strict=True)
    if self.versions is not None:
      aggregators = tuple(
          one._replace(versions=versions.empty(sent, self.versions))
          for one, sent in zip(aggregators, broadcasts, strict=True))
    rows = self.num_states * self.devices
    stack = lambda x: jnp.broadcast_to(x, (rows, *x.shape))
    copies = lambda tree: jax.tree.map(lambda x: stack(jnp.asarray(x)), tree)
    return SimulationState(
        frozen.without(server), aggregators,
        copies(frozen.without(client_state)), copies(memories))

  def walk(self, examples, server, client_state, weights) -> list[Walked]:
    """Each exchange with one client, for shapes and static numbers."""
    key, cohort = jax.random.key(0), exchange.nobody(1)
    slot = jax.tree.map(lambda x: x[0], cohort)
    around = Surroundings(
        examples, key, jax.tree.map(lambda x: x[None], cohort), weights)
    alone = dataclasses.replace(self, devices=1, cohort_size=1, num_states=1)
    heard, walked = Heard(), []
    for one in alone.exchanges:
      message = one.phase.broadcast(server, *heard.aggregates)
      said = (*heard.broadcasts, message)
      said = said if len(said) > 1 else message
      sent = one.work(around, said, None, slot, client_state).message
      state, memory = one.init(sent, key)
      if one.receive is not None:
        message = downward.part(one.receive, around.key, said, slot)
      whole = (8 * trees.num_bytes(frozen.without(message)),
               8 * trees.num_bytes(sent.update) + costs.beside_update(sent))
      arrived, _, down = downward.delivered(
          *one.down(around, message, state.transform))
      if one.receive is not None:
        arrived = said
        downward.check_fixed(one.aggregator.transform, down)
      bits = (down, one.transformed(
          sent, state.transform, memory, key, slot, cohort)[2])
      bits = [y if x is None else x for x, y in zip(bits, whole, strict=True)]
      nominal = tuple(y if isinstance(x, jax.Array) else x
                      for x, y in zip(bits, whole, strict=True))
      walked.append(Walked(sent, arrived, *bits, nominal))
      if len(walked) < len(alone.exchanges):
        held = jax.tree.map(
            lambda x: jnp.asarray(x)[None], Held(client_state, memory))
        heard = one.run(around, server, state, held, heard).heard
    return walked

  def run(
      self, examples, state, plan: Plan, first, last, key, eval_data, weights
  ):
    """Runs rounds `first` to `last - 1` of the plan.

    Args:
      examples: PyTree [E, ...], those that the device holds.
      state: SimulationState, where to start.
      plan: of R rounds.
      first: int32 [], of them.
      last: int32 [], after the last of them.
      key: the root key.
      eval_data: evaluation sets by name.
      weights: the model's frozen ones, None if it has none.

    Returns:
      (SimulationState, RoundOutputs [R]).
    """
    if not self.asks_for_places:
      plan = plan._replace(slots=plan.slots._replace(place=None))
    everyone = None
    if self.devices > 1 and self.algorithm.aggregator.transform is not None:
      everyone = collectives.gathered(plan.slots, axis=1)

    def step(state, i):
      state = state._replace(server=frozen.put(state.server, weights))
      slots, evaluate, cohort = jax.tree.map(
          lambda x: x[i], (plan.slots, plan.evaluate, everyone))
      # Of the devices' axis there is one here.
      around = Surroundings(
          examples, random.round_key(key, state.server.round),
          jax.tree.map(lambda x: x[0], slots), weights, cohort)
      state, outputs = self.round(around, state, evaluate, eval_data)
      return frozen.without(state), outputs

    shapes = jax.eval_shape(step, state, jnp.int32(0))[1]
    capacity = plan.evaluate.shape[0]
    buffers = jax.tree.map(
        lambda x: jnp.zeros((capacity, *x.shape), x.dtype), shapes)

    def body(i, carry):
      state, buffers = carry
      state, outputs = step(state, i)
      buffers = jax.tree.map(
          lambda buffer, x: buffer.at[i].set(x), buffers, outputs)
      return state, buffers

    return jax.lax.fori_loop(first, last, body, (state, buffers))

  def round(
      self, around: Surroundings, state: SimulationState, evaluate, eval_data
  ):
    """One round and what is reported of it."""
    if self.asked.squares is not None:
      around = around._replace(
          variables=self.algorithm.evaluated(state.server))
    heard, clients, results, memories = Heard(), state.clients, [], []
    for one, own, memory in zip(
        self.exchanges, state.aggregator, state.transforms, strict=True):
      result = one.run(
          around, state.server, own, Held(clients, memory), heard)
      heard, clients = result.heard, result.clients.states
      memories.append(result.clients.memories)
      results.append(result)
    *earlier, aggregate = heard.aggregates
    server = self.algorithm.server(
        state.server, aggregate, random.named(around.key, 'server'), *earlier)
    aggregators = tuple(r.state for r in results)
    if self.waits_for_messages(around.slots):
      server, aggregators = trees.where(
          aggregate.count > 0, (frozen.without(server), aggregators),
          (frozen.without(state.server), state.aggregator))
    server = frozen.put(server, around.frozen)._replace(
        round=state.server.round + 1)
    told = {}
    if self.algorithm.gossip is not None:
      clients, told = gossip.mixed(
          self.algorithm.gossip, clients, state.server.round,
          self.num_clients, self.devices)
    state = SimulationState(server, aggregators, clients, tuple(memories))
    return state, self.outputs(
        state, results, told, evaluate, eval_data)

  def waits_for_messages(self, slots: Slot) -> bool:
    """Static: whether nothing must change where none has come."""
    if self.algorithm.aggregator.always_steps or self.versions is not None:
      return False
    return self.may_be_idle or slots.arrives is not None

  def outputs(
      self, state, results, told, evaluate, eval_data
  ) -> RoundOutputs:
    """What is reported; evaluates where the plan says so.

    `told` are metrics by part, of what follows the exchanges.
    """
    variables = self.algorithm.evaluated(state.server)
    sums = lambda: self.total(self.evaluate.sums(variables, eval_data))
    # All devices go the same way, so only rounds that evaluate add up.
    test = jax.lax.cond(
        evaluate, sums, lambda: trees.zeros(jax.eval_shape(sums)))
    last = results[-1]
    return RoundOutputs(
        train=last.totals.metrics, test=self.evaluate.finish(test),
        count=last.heard.aggregates[-1].count,
        finite=trees.all_finite(state.server.variables),
        aggregation=_metrics(self.exchanges, results) | _named(told),
        started=last.totals.started,
        bits_up=_sum_of([r.totals.bits for r in results]),
        bits_down=_sum_of([r.bits_down for r in results]),
        faults=_any_of([r.faults for r in results]),
        told=last.told._replace(bits=_sum_of([r.told.bits for r in results])))

  def total(self, tree):
    """The sum over devices."""
    return collectives.total(tree) if self.devices > 1 else tree


def _metrics(exchanges, results) -> dict[str, jax.Array]:
  """'part/name' -> value, of all exchanges."""
  found = {}
  for one, result in zip(exchanges, results, strict=True):
    found |= _named(result.metrics, one.name)
  return found


def _named(
    metrics: dict[str, dict[str, jax.Array]], of: str = ''
) -> dict[str, jax.Array]:
  """'part/name' -> value; `of` tells the parts of a round's exchanges apart."""
  return {f'{part}{of}/{name}': value
          for part, values in metrics.items()
          for name, value in values.items()}


def _any_of(faults: list[Faults | None]) -> Faults | None:
  """Of all exchanges that tell."""
  known = [x for x in faults if x is not None]
  if not known:
    return None
  return jax.tree.map(lambda *x: functools.reduce(jnp.logical_or, x), *known)


def _sum_of(bits: list[jax.Array | None]) -> jax.Array | None:
  """Of those that are known to the program only."""
  traced = [x for x in bits if x is not None]
  return sum(traced) if traced else None

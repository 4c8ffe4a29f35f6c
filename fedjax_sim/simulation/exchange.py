"""One exchange between the server and a cohort: out, local work, and back."""

import dataclasses
import functools
from collections.abc import Callable

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation.chain import nobody
from fedjax_sim.aggregation.grouped import grouped
from fedjax_sim.core import costs, random, trees
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    ClientData,
    ClientOutput,
    FederatedAlgorithm,
    Keys,
    Message,
    MetricSums,
    Phase,
    Pool,
    PyTree,
    Reducer,
    ServerState,
    Slot,
)
from fedjax_sim.simulation import blocks, downward, versions
from fedjax_sim.simulation.exchange_types import (
    AggregatorState,
    Asked,
    Faults,
    Heard,
    Held,
    Result,
    Surroundings,
    Told,
    Totals,
    with_own_sums,
)
from fedjax_sim.simulation.placement import collectives


def phases(algorithm: FederatedAlgorithm) -> tuple[Phase, ...]:
  """All exchanges of a round, the last one as well."""
  return (*algorithm.phases, Phase(
      algorithm.broadcast, algorithm.client, algorithm.pooled))


def exchanges(
    algorithm: FederatedAlgorithm, asked: Asked, **static
) -> 'list[Exchange]':
  """The exchanges of a round, in order; `static` are further fields.

  Of losses the last one tells; of bits all do.
  """
  every = phases(algorithm)
  names = [f' of phase {i}' for i in range(len(every) - 1)] + ['']
  asks = bool(algorithm.asynchronous and algorithm.asynchronous.asks_origin)
  return [Exchange(
      phase=phase, name=name, receive=algorithm.receive, asks_origin=asks,
      aggregator=algorithm.aggregator,
      asked=Asked(bits=asked.bits) if name else asked, **static)
          for phase, name in zip(every, names, strict=True)]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Exchange:
  """The pure functions of an exchange, with what is static about it.

  Attributes:
    phase: who says what.
    name: tells the keys of a round's exchanges apart; empty for the last one.
    receive: as in `FederatedAlgorithm`.
    aggregator: what becomes of the messages.
    num_clients: N.
    devices: D; with several all of this runs inside of `sharding.spread`.
    max_size: most examples of a client.
    ragged: whether clients differ in their number of local steps.
    cohort_size: M, most clients of a round.
    num_states: clients whose state a device holds.
    asks_origin: as in `Asynchronous`.
    asked: what is told of each slot.
  """

  phase: Phase
  name: str
  receive: Callable | None
  aggregator: Aggregator
  num_clients: int
  devices: int
  max_size: int
  ragged: bool
  cohort_size: int
  num_states: int
  asks_origin: bool = False
  asked: Asked = Asked()

  def init(self, message: Message, key) -> tuple[AggregatorState, PyTree]:
    """The aggregation's first state, and a client's first memory.

    Args:
      message: the shapes of a client's.
      key: of the simulation.
    """
    transform, memory = (), ()
    if self.aggregator.transform is not None:
      transform = self.aggregator.transform.init(
          message, self.num_clients, random.named(key, 'transforms'))
      memory = self.aggregator.transform.client_init(message)

    def sent_message(message):
      cohort = nobody(1)
      sent, _, _ = self.transformed(
          message, transform, memory, key, _first(cohort), cohort)
      return sent._replace(slot=_first(cohort))

    sent = jax.eval_shape(sent_message, message)
    reducer = reducer_of(self.aggregator, sent).initial(
        sent, self.num_clients, random.named(key, 'reducer'))
    return AggregatorState(transform, reducer), memory

  def run(
      self, around: Surroundings, server: ServerState, state: AggregatorState,
      clients: Held, heard: Heard,
  ) -> Result:
    """The exchange of one round."""
    broadcast, transform, bits_down = self.broadcast(
        around, server, state.transform, heard)
    broadcasts = (*heard.broadcasts, broadcast)
    said = broadcasts if len(broadcasts) > 1 else broadcast
    if state.versions is not None:
      said = versions.keep(state.versions, said, server.round)
      state = state._replace(versions=said.ring)
    pooled = self.pooled(around, said)
    if pooled:
      aggregate, totals = self.pooled_mean(*pooled, around.slots)
      rows, metrics = (None, Told()), {}
    else:
      aggregate, state, clients, totals, rows, metrics = self.reduced(
          around, said, state._replace(transform=transform), clients)
    if self.asks_origin and state.versions is not None:
      aggregate = aggregate._replace(
          origin=versions.origin(said, around.slots, self.total))
    aggregates, (faults, told) = (*heard.aggregates, aggregate), rows
    return Result(Heard(broadcasts, aggregates), state, clients, totals,
                  faults, metrics, _if_traced(bits_down), told)

  def broadcast(
      self, around: Surroundings, server: ServerState, state, heard: Heard
  ):
    """What clients are sent, the transforms' state, and bits.

    These are None where the whole message travels as it is.
    """
    message = self.phase.broadcast(server, *heard.aggregates)
    if self.receive is not None:
      return message, state, None  # Each client's part goes down by itself.
    return downward.delivered(*self.down(around, message, state))

  def down(self, around: Surroundings, message: PyTree, state):
    """The arguments of `downward.delivered` for a message."""
    return (self.aggregator.transform, message, state,
            self.named(around.key, 'broadcast'), around.frozen)

  def pooled(self, around: Surroundings, broadcast):
    """What the phase gives for all clients in one go; None if it can't."""
    plain = self.aggregator.transform is None and self.aggregator.reducer.plain
    if (not plain or self.phase.pooled is None or self.asked.of_training
        or isinstance(broadcast, versions.Versions)):
      return None
    slots = jax.tree.map(jnp.ravel, around.slots)
    sizes = jnp.where(slots.counts, slots.size, 0)
    return self.phase.pooled(broadcast, Pool(
        around.examples, slots.offset, sizes, slots.counts,
        jax.vmap(lambda *slot: update_key(around.key, *slot))(
            slots.client, slots.occurrence)))

  def pooled_mean(
      self, aggregate: Aggregate, metrics: MetricSums, slots: Slot
  ) -> tuple[Aggregate, Totals]:
    """The aggregate of all devices' clients, from those of each device's."""
    weighted = trees.scale_rows(aggregate.mean, aggregate.weight)
    total, weight, count, sums, totals = self.total(
        (weighted, aggregate.weight, aggregate.count, aggregate.sums,
         Totals(metrics, None, _started(slots))))
    return Aggregate(
        trees.divide_rows(total, weight), weight, weight, count, sums), totals

  def reduced(
      self, around: Surroundings, broadcast, state: AggregatorState, clients
  ):
    """The aggregate of the messages that clients send.

    Returns:
      (Aggregate, AggregatorState, Held, Totals, (Faults, Told), metrics).
    """
    cohort = None
    if self.aggregator.transform is not None:
      cohort = self.cohort(around)
    work = functools.partial(self.work, around, broadcast, state.transform)
    send = functools.partial(self.send, around.key, state.transform, cohort)
    tell = functools.partial(self.tell, around)
    output, sent, bits, told = self.shapes(
        work, send, tell, around.slots, clients)
    reducer = reducer_of(self.aggregator, sent)
    slots = around.slots.present.shape
    none = jnp.zeros(slots, bool)
    nothing = jax.tree.map(
        lambda x: jnp.zeros((*slots, *x.shape), x.dtype), told)
    accumulator, clients, totals, rows = blocks.run(
        work, send, tell, reducer, around.slots,
        (reducer.init(sent, self.cohort_size), clients,
         trees.zeros(Totals(output.metrics, bits, None)),
         (Faults(none, none), nothing)), self.num_states)
    totals = totals._replace(started=_started(around.slots))
    accumulator, totals, rows = self.merged(
        reducer, accumulator, totals, *rows)
    aggregate, reduced, metrics = reducer.finalize(
        accumulator, state.reducer,
        versions.received(broadcast, None, around.frozen),
        self.named(around.key, 'finalize'))
    metrics = {'reducer': metrics} if metrics else {}
    aggregate, transform, more = self.decoded(
        aggregate, state.transform, around.key, cohort, output.message)
    state = state._replace(transform=transform, reducer=reduced)
    return aggregate, state, clients, totals, rows, metrics | more

  def shapes(self, work, send, tell, slots: Slot, clients: Held):
    """Shapes: a client's output, its message as sent, bits, what it tells."""
    def one():
      slot = _first(_first(slots))
      output = work(slot, _first(clients.states))
      sent, _, bits = send(slot, output.message, _first(clients.memories))
      return (output, sent._replace(slot=slot), bits,
              tell(slot, output, bits))
    return jax.eval_shape(one)

  def decoded(
      self, aggregate: Aggregate, state, round_key, cohort, message: Message
  ):
    """The aggregate, the transforms' state and their metrics, on the server.

    Args:
      aggregate: of the messages as they were sent.
      state: the transforms'.
      round_key: of the round.
      cohort: Slot [M].
      message: shapes of a client's, before the transforms.
    """
    metrics = {}
    if self.aggregator.transform is not None:
      key = random.named(self.named(round_key, 'transforms'), 'round')
      aggregate, state, metrics = self.aggregator.transform.server(
          aggregate, state, key, cohort, message)
    sums = aggregate.sums.get('algorithm', {})
    return aggregate._replace(sums=sums), state, metrics

  def work(
      self, around: Surroundings, broadcast, state, slot: Slot, client_state
  ) -> ClientOutput:
    """A client's work; its message says whose it is, and whether it counts.

    `state` is the transforms'; None leaves out what they do to a client's part.
    """
    broadcast = versions.received(broadcast, slot, around.frozen)
    if self.receive is not None:
      broadcast = downward.part(self.receive, around.key, broadcast, slot)
      if state is not None:
        broadcast = downward.delivered_part(
            *self.down(around, broadcast, state))
    output = self.phase.client(
        broadcast, client_state, self.data(around, slot),
        update_key(around.key, slot.client, slot.occurrence))
    message = output.message
    present = slot.counts
    if message.present is not True:
      present = message.present & present
    return output._replace(
        message=with_own_sums(message)._replace(present=present))

  def data(self, around: Surroundings, slot: Slot) -> ClientData:
    """A client's view of the examples."""
    ragged = self.ragged or slot.work is not None
    return ClientData(around.examples, slot.offset, slot.size, self.max_size,
                      ragged, None if ragged else slot.size, slot.work)

  def tell(
      self, around: Surroundings, slot: Slot, output: ClientOutput, bits
  ) -> Told:
    """What the host is told of a client."""
    asked, told = self.asked, Told(bits=bits if self.asked.bits else None)
    if asked.loss:
      if 'loss' not in output.metrics:
        raise ValueError(
            "sampler needs an algorithm whose clients tell their 'loss', got "
            f'one that tells {", ".join(output.metrics) or "nothing"}.')
      told = told._replace(loss=jnp.stack(output.metrics['loss']))
    if asked.squares is not None:
      told = told._replace(squares=asked.squares(
          around.variables, self.data(around, slot)))
    return told

  def send(self, round_key, state, cohort, slot: Slot, message, memory):
    """`transformed`, with bits that the program alone knows, or None."""
    message, memory, bits = self.transformed(
        message, state, memory, round_key, slot, cohort)
    return message, memory, _if_traced(bits)

  def transformed(
      self, message: Message, state, memory, round_key, slot: Slot,
      cohort: Slot,
  ):
    """A message after the transforms, the client's memory, and bits.

    These are None where the whole message travels as it is.
    """
    transform = self.aggregator.transform
    if transform is None and message.sent is None and message.cost is None:
      return message, memory, None
    if message.cost is None:
      message = message._replace(cost=costs.of(message.update, message.sent))
    message = message._replace(slot=slot)
    if transform is not None:
      client = random.client_key(round_key, slot.client, slot.occurrence)
      keys = Keys(
          random.named(self.named(round_key, 'transforms'), 'round'),
          self.named(client, 'transforms'))
      message, memory = transform.client(message, state, memory, keys, cohort)
    bits = costs.total(message.cost) + costs.beside_update(message)
    return message._replace(cost=None, sent=None, slot=None), memory, bits

  def cohort(self, around: Surroundings) -> Slot:
    """All devices' slots in order, [M]."""
    slots = jax.tree.map(
        jnp.ravel, around.slots if self.devices == 1 else around.everyone)
    place = jnp.where(slots.present, slots.place, self.cohort_size)
    return jax.tree.map(
        lambda x: jnp.zeros(self.cohort_size, x.dtype).at[place].set(
            x, mode='drop'), slots)

  def named(self, key, purpose: str):
    """A key of this exchange's own."""
    return random.named(key, purpose + self.name)

  def total(self, tree):
    """The sum over devices."""
    return collectives.total(tree) if self.devices > 1 else tree

  def merged(
      self, reducer: Reducer, accumulator, totals: Totals, faults: Faults,
      told: Told,
  ):
    """All devices' of these, by slot [D, ...]: by one sum, if it does add."""
    if self.devices == 1:
      return accumulator, totals, jax.tree.map(
          lambda x: x[None], (faults, told))
    rows = collectives.by_device((faults, told))
    if reducer.merge is trees.add:
      accumulator, totals, rows = collectives.total(
          (accumulator, totals, rows))
    else:
      accumulator = collectives.merge(accumulator, reducer.merge)
      totals, rows = collectives.total((totals, rows))
    faults, told = rows
    return accumulator, totals, (jax.tree.map(lambda x: x > 0, faults), told)


def update_key(round_key, client, occurrence) -> jax.Array:
  """The key that a client's update is given."""
  return random.named(
      random.client_key(round_key, client, occurrence), 'client')


def _started(slots: Slot) -> jax.Array | None:
  """int32 [], how many of them take part; None where all messages arrive."""
  if slots.arrives is None:
    return None
  return jnp.sum(slots.works, dtype=jnp.int32)


def reducer_of(aggregator: Aggregator, message: Message) -> Reducer:
  """The reducer of messages like this one, in groups or not."""
  if message.group is None:
    return aggregator.reducer
  return grouped(aggregator.reducer)


def _if_traced(bits):
  """Bits that are known to the program only, as `costs.whole`, else None."""
  return costs.whole(bits) if isinstance(bits, jax.Array) else None


def _first(tree: PyTree) -> PyTree:
  return jax.tree.map(lambda x: x[0], tree)

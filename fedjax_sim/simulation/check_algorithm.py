"""One round of an algorithm on shapes alone, before anything is compiled.

Each part is held to what it promises: so a mistake in a function of the user's
own is named with the function and the array, and no wrong shape is broadcast.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import numpy as jnp

from fedjax_sim.aggregation import checked
from fedjax_sim.clients.blame import TrainingError
from fedjax_sim.core import contracts, frozen, trees
from fedjax_sim.core.asynchrony import Origin
from fedjax_sim.core.types import (
    Aggregate,
    ClientOutput,
    FederatedAlgorithm,
    Message,
    PyTree,
    Reducer,
    ServerState,
    Variables,
)
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation import engine, exchange
from fedjax_sim.simulation.exchange import Exchange
from fedjax_sim.simulation.exchange_types import (
    AggregatorState,
    Asked,
    with_own_sums,
)
from fedjax_sim.simulation.rounds import SimulationState

# Messages side by side; any number will do.
_LANES = 2
_STATE = 'the one it was given'


class Walked(NamedTuple):
  """Shapes of a round's first half.

  Attributes:
    algorithm: the one that was walked through.
    first: the state before the first round.
    variables: the model's.
    sent: for each exchange, the message to a client and the one it returns.
  """

  algorithm: FederatedAlgorithm
  first: SimulationState
  variables: Variables
  sent: tuple[tuple[PyTree, Message], ...]


def clients(
    algorithm: FederatedAlgorithm, data: FederatedData, variables: Variables
) -> Walked:
  """The first state and the clients' part of a round.

  Args:
    algorithm: the algorithm.
    data: the federation; only shapes matter.
    variables: the model's, likewise.

  Raises:
    ValueError: a function fails or returns what it must not; named.
  """
  sent = {}
  first = engine.first_state(_guarded(algorithm, sent), data, variables)
  count = len(exchange.phases(algorithm))
  return Walked(algorithm, first, variables, tuple(
      sent[i] for i in range(count)))


def servers(walked: Walked, num_clients: int, cohort_size: int) -> None:
  """The server's part of a round: aggregation, and the algorithm's `server`.

  Raises:
    ValueError: as in `clients`.
  """
  every = exchange.exchanges(
      walked.algorithm, Asked(), num_clients=num_clients, devices=1, max_size=1,
      ragged=True, cohort_size=cohort_size, num_states=1)

  def serve(first: SimulationState, variables: Variables, sent):
    key, heard = jax.random.key(0), []
    server = frozen.put(first.server, variables.frozen)
    for one, state, (broadcast, message) in zip(
        every, first.aggregator, sent, strict=True):
      aggregate = _aggregate(one, state, broadcast, message, key)
      if one.asks_origin:
        aggregate = aggregate._replace(
            origin=Origin(broadcast, jnp.zeros(())))
      heard.append(aggregate)
    by = "algorithm's server"
    *earlier, last = heard
    new = contracts.call(
        by, walked.algorithm.server, server, last, key, *earlier)
    contracts.instance(by, new, ServerState)
    contracts.same(by, 'a state', frozen.without(new), first.server, _STATE)
    return ()

  jax.eval_shape(serve, walked.first, walked.variables, walked.sent)


def _aggregate(
    one: Exchange, state: AggregatorState, broadcast, message: Message, key
) -> Aggregate:
  """What an exchange makes of a cohort's messages like this one."""
  cohort = exchange.nobody(one.cohort_size)
  slot = jax.tree.map(lambda x: x[0], cohort)
  transform, memory = state.transform, ()
  if one.aggregator.transform is not None:
    memory = one.aggregator.transform.client_init(message)
  sent, _, _ = one.transformed(message, transform, memory, key, slot, cohort)
  sent = sent._replace(slot=slot)
  reducer = exchange.reducer_of(one.aggregator, sent)
  aggregate = _reduced(
      reducer, sent, one.cohort_size, state.reducer, broadcast, key)
  return one.decoded(aggregate, transform, key, cohort, message)[0]


def _reduced(
    reducer: Reducer, sent: Message, size: int, state, broadcast, key
) -> Aggregate:
  """What a reducer makes of messages like `sent`, at most `size` of them."""
  part = lambda function: f'reducer {reducer.name}: its {function}'
  lanes = jax.tree.map(
      lambda x: jnp.broadcast_to(x, (_LANES, *jnp.shape(x))), sent)
  empty = contracts.call(part('init'), reducer.init, sent, size)
  full = contracts.call(
      part('accumulate'), reducer.accumulate, empty, lanes)
  contracts.same(part('accumulate'), 'an accumulator', full, empty, _STATE)
  if reducer.merge is not trees.add:
    both = contracts.call(part('merge'), reducer.merge, empty, full)
    contracts.same(part('merge'), 'an accumulator', both, empty, _STATE)
  by = part('finalize')
  aggregate, new, metrics = contracts.items(by, contracts.call(
      by, reducer.finalize, full, state, broadcast, key),
      '(aggregate, state, metrics)')
  checked.check_aggregate(by, aggregate, sent, "a message's update")
  contracts.same(by, 'a state', new, state, _STATE)
  contracts.scalars(by, metrics)
  return aggregate


def _guarded(
    algorithm: FederatedAlgorithm, sent: dict[int, tuple[PyTree, Message]]
) -> FederatedAlgorithm:
  """The algorithm, with clients that raise for what they must not return.

  Args:
    algorithm: any.
    sent: is filled in as `Walked.sent` has it, by phase.
  """
  def init(*args) -> ServerState:
    by = "algorithm's init"
    state = contracts.call(by, algorithm.init, *args)
    contracts.instance(by, state, ServerState)
    return state

  phases = [
      phase._replace(client=_guarded_client(phase.client, i, sent))
      for i, phase in enumerate(exchange.phases(algorithm))]
  return algorithm._replace(
      init=init, phases=tuple(phases[:-1]), client=phases[-1].client)


def _guarded_client(client: Callable, phase: int, sent: dict) -> Callable:
  """A client that raises for what it must not return, and notes the message."""
  by = "algorithm's client"

  def guarded(broadcast, state, data, key) -> ClientOutput:
    hint = '' if jax.tree.leaves(state) else (
        ' (Its client state is (), since client_init has given none.)')
    try:
      output = contracts.call(
          by, client, broadcast, state, data, key, hint=hint)
    except TrainingError as error:  # Though the given model has been tried.
      raise TrainingError(
          f'{error} If the algorithm was built with another model than the one '
          'given here, build it with this one.') from error.__cause__
    contracts.instance(by, output, ClientOutput)
    contracts.instance(by, output.message, Message, 'message')
    _check_message(by, output.message)
    contracts.same(by, 'a state', output.state, state,
                   'the one it was given, which begins as client_init says')
    contracts.metric_sums(by, output.metrics)
    message = with_own_sums(output.message)
    sent[phase] = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)),
        (broadcast, message))
    return output

  return guarded


def _check_message(by: str, message: Message) -> None:
  """ValueError unless weights fit the update, and all are arrays."""
  contracts.arrays(by, "the message's update", message.update)
  contracts.arrays(by, "the message's weight", message.weight)
  contracts.arrays(by, "the message's sums", message.sums)

  def fits(weight, x):
    if weight.shape != x.shape[:weight.ndim]:
      raise ValueError(
          f'{by} must return a weight whose shape begins the shape of what it '
          f'weighs, most often a scalar; got {contracts.shape(weight)} for '
          f'{contracts.shape(x)}.')

  trees.map_prefix(fits, message.weight, message.update)

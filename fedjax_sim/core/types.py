"""The few types everything is built from: NamedTuples of pure functions.

Axis letters: N clients in the federation, E examples in all, M clients in a
round's cohort, W lanes (clients computed side by side), B batch, K groups.

An example is a dict with `x`, what a model takes, and `y`, what it should
predict; both may be pytrees. Metrics travel as (sum, count) until they are
reported, so that they can be added up in any grouping.

A field that is None where it is not used is None statically: it costs a
compiled program nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sim.core import short
from fedjax_sim.core.asynchrony import Asynchronous, Origin
from fedjax_sim.core.cohort import ClientData, Pool, Slot
from fedjax_sim.core.local_cost import LocalCost
from fedjax_sim.core.model import MetricSums, PyTree, Variables
from fedjax_sim.core.model import Model as Model  # A type like those below.
from fedjax_sim.core.topology import Edges, Gossip

# Scalars by name, float32 [].
Scalars = Mapping[str, jax.Array]


class Message(NamedTuple):
  """What a client returns to the server.

  Attributes:
    update: PyTree, everything of a vector's size that leaves the client; for
      FedAvg a `Variables`, local minus server. Transforms see all of it.
    weight: float32 [...], the weight of the update in the mean, or a prefix
      tree of such. A weight's shape is a prefix of the shape of its leaves.
    present: bool []; an absent slot is selected away, never multiplied,
      since 0 * NaN is NaN. The engine makes it False where `Slot.counts` is; a
      client that has done no step may do so itself.
    sums: scalars or short vectors by name, added up plainly over the clients
      that are present. Algorithms and transforms each see their own only.
    group: bool [K], True at the one of K server models that the update is for;
      None for one model. Reducers then give [K, ...].
    sent: bool, a prefix tree of the update: the entries that travel, where the
      others are zero. None for all.
    cost: a `costs.Cost`. The engine sets it from dtypes and `sent` where a
      client has not, transforms change it; None outside of them.
    slot: of the client. The engine sets it for transforms and reducers.
  """

  update: PyTree
  weight: PyTree
  present: jax.Array | bool = True
  sums: Mapping[str, PyTree] = {}
  group: jax.Array | None = None
  sent: PyTree | None = None
  cost: PyTree | None = None
  slot: Slot | None = None


class ClientOutput(NamedTuple):
  """What a client's work of one round gives.

  Attributes:
    message: what goes to the server.
    state: the client's own state, kept until it is next in a cohort. If the
      message does not arrive, the client keeps the state that it had.
    metrics: MetricSums of scalars, summed over the cohort and logged.
  """

  message: Message
  state: PyTree
  metrics: MetricSums


# (what the server broadcasts, the client's state, ClientData, key) -> output.
# Written for one client; the engine maps it over lanes.
ClientUpdate = Callable[[PyTree, PyTree, ClientData, jax.Array], ClientOutput]


class Aggregate(NamedTuple):
  """What the server learns from a round.

  Attributes:
    mean: PyTree like a message's update: the weighted mean (or median, …).
    weight: float32, the sum of the weights of the round's messages, of the
      shape of a message's weight.
    denominator: what the sum of updates was divided by; of the shape of
      `weight`, or a scalar. For a sum of integers, what decoding still has to
      divide by. mean * denominator is the sum of the updates; with `ef21`, of
      its estimates of all clients' updates.
    count: int32 [], the number of clients that were present.
    sums: the sums of the messages' sums.
    origin: where the clients began, if the algorithm asks for it and they
      report asynchronously; else None.
  """

  mean: PyTree
  weight: PyTree
  denominator: PyTree
  count: jax.Array
  sums: Mapping[str, PyTree]
  origin: Origin | None = None


class Reducer(NamedTuple):
  """Turns the messages of a round into one `Aggregate`, block by block.

  It alone multiplies by weight and divides. Messages have no group: the engine
  reduces each group on its own.

  Attributes:
    init: `(message, num_slots) -> accumulator`, from the shapes of one message
      and the most messages that there can be in a round, M.
    accumulate: `(accumulator, messages [W, ...]) -> accumulator`.
    merge: `(accumulator, accumulator) -> accumulator`, for several devices;
      `trees.add` itself where it adds, which a mesh does best.
    finalize: `(accumulator, state, broadcast, key) -> (Aggregate, state,
      Scalars)`: what was sent to the clients, and metrics for the record. With
      nobody present the mean is zero.
    initial: `(message, num_clients, key) -> state` that lasts from round to
      round; `()` for none.
    plain: whether it is the weighted mean of the updates as they are, which an
      algorithm may compute in another way.
    linear: whether the mean is a sum of the updates times their weights, or
      times one, divided by the `denominator` of its aggregate.
    tolerant: whether it bears updates that are not finite. Then the metrics of
      clients with such an update or loss are left out, and the round is good.
    name: for errors.
    weighs: whether clients count by the weights of their messages.
    ranks: whether it goes by the order of the clients' values in a coordinate,
      in which what is not sent would count as zeros.
  """

  init: Callable[[Message, int], PyTree]
  accumulate: Callable[[PyTree, Message], PyTree]
  merge: Callable[[PyTree, PyTree], PyTree]
  finalize: Callable[..., tuple[Aggregate, PyTree, Scalars]]
  initial: Callable[..., PyTree] = lambda message, num_clients, key: ()
  plain: bool = False
  linear: bool = False
  tolerant: bool = False
  name: str = 'a reducer'
  weighs: bool = False
  ranks: bool = False

  def __repr__(self) -> str:
    return f'Reducer({self.name})'


class Keys(NamedTuple):
  """Keys of what is done for one client of a cohort.

  Attributes:
    round: the same for all clients of a cohort, and for the server.
    client: this client's.
  """

  round: jax.Array
  client: jax.Array


class MessageTransform(NamedTuple):
  """A change to messages on their way: clip, round, mask, corrupt …

  State shared by all clients can't change lane by lane; so a transform has a
  part that runs for each client and a part that runs once, on the server.
  `aggregation.transform` makes one from the parts that it needs.

  Attributes:
    name: what its keys, sums, metrics and states are found by.
    init: `(message, num_clients, key) -> state`, shared by all clients, from
      a message's shapes.
    client_init: `(message) -> memory` of each client, `()` for none.
    client: `(message, state, memory, Keys, cohort) -> (message, memory)`. If
      the message does not arrive, the client keeps the memory that it had.
    decode: `(update, state, key, like) -> update`, what `client` has encoded,
      of one message or of a mean; `key` is `Keys.round`, `like` the shapes of
      the update before `client`.
    server: `(Aggregate, state, key, cohort, sent) -> (Aggregate, state,
      Scalars)`, after the round: decodes the mean, then adds noise, adapts …;
      `aggregation.transform` makes it of `decode` and one without `sent`.
      `sent` is a Message of shapes, one client's before `client`, and the
      scalars go into the record.
    broadcast: `(message, state, key) -> (message, state, bits)`, the way down:
      what clients make of what the server sends, and its bits for each; None
      if it travels as it is.
    parts: the transforms of a chain, in order; `()` of a single one.
    encodings: what it does to an update's values, in order, as
      `aggregation.encodings` has it; `()` if any order of a chain will do.
    needs_linear: whether it works with a linear reducer only.
  """

  name: str
  init: Callable[..., PyTree]
  client_init: Callable[[Message], PyTree]
  client: Callable[..., tuple[Message, PyTree]]
  decode: Callable[..., PyTree]
  server: Callable[..., tuple[Aggregate, PyTree, Mapping[str, Any]]]
  broadcast: Callable[..., tuple[PyTree, Any]] | None = None
  parts: tuple['MessageTransform', ...] = ()
  encodings: tuple[Any, ...] = ()
  needs_linear: bool = False

  def __repr__(self) -> str:
    return f'MessageTransform({_in_order(self)})'


class Aggregator(NamedTuple):
  """A round's aggregation; `aggregation.aggregator` makes one.

  Attributes:
    transform: of every message, None if they stay as they are.
    reducer: turns all messages of a round into one aggregate.
    noise_multiplier: of an aggregator that bounds what a client adds and puts
      Gaussian noise on the sum, the noise's deviation over that bound; else
      None. It may be traced.
  """

  transform: MessageTransform | None
  reducer: Reducer
  noise_multiplier: float | jax.Array | None = None

  def __repr__(self) -> str:
    parts = [_in_order(self.transform)] if self.transform else []
    return f'Aggregator({", ".join((*parts, self.reducer.name))})'

  @property
  def always_steps(self) -> bool:
    """Static: whether the server steps though it has no message.

    Noise for privacy is added in every round: its absence would tell that
    nobody was there.
    """
    return self.noise_multiplier is not None


def _in_order(transform: MessageTransform) -> str:
  """The names of a chain's transforms, or of a single one."""
  return ', '.join(part.name for part in transform.parts or (transform,))


class ServerState(NamedTuple):
  """What the server carries from round to round.

  Attributes:
    round: int32 [], the number of rounds done.
    variables: the global model.
    opt_state: the server optimizer's state.
    extra: PyTree of whatever else the algorithm needs.
  """

  round: jax.Array
  variables: PyTree
  opt_state: PyTree
  extra: PyTree = ()


# (what the server broadcasts, Pool) -> what clients and the weighted mean give.
PooledUpdate = Callable[
    [PyTree, Pool], tuple[Aggregate, MetricSums] | None]


class Phase(NamedTuple):
  """An exchange with the cohort that comes before a round's last one.

  Attributes:
    broadcast: `(ServerState, *earlier) -> server message`, `earlier` being the
      aggregates of the phases before this one.
    client: a `ClientUpdate`. From the second phase on it takes a tuple of all
      that was broadcast in the round so far.
    pooled: as in `FederatedAlgorithm`.
  """

  broadcast: Callable[..., PyTree]
  client: ClientUpdate
  pooled: PooledUpdate | None = None


class FederatedAlgorithm(NamedTuple):
  """An algorithm: who computes what. Nothing in it knows lanes or devices.

  Attributes:
    init: `(Variables, key, num_clients) -> ServerState`; of the clients, those
      that have any examples.
    client_init: `(Variables) -> client state` of a client that has not taken
      part yet, `()` for none.
    broadcast: `(ServerState, *earlier) -> server message`, `earlier` being the
      aggregates of `phases`.
    client: a `ClientUpdate`. With phases it takes a tuple of all that was
      broadcast in the round.
    aggregator: an `Aggregator`, of all phases.
    server: `(ServerState, Aggregate, key, *earlier) -> ServerState`. The engine
      counts the round.
    personalize: `(ServerState, client state, ClientData, key) -> Variables`
      that a client is evaluated with.
    phases: exchanges with the cohort before the last one, which is described
      by the fields above; most algorithms have none.
    receive: `(server message, Slot, Keys) -> server message`, what of a
      broadcast one client gets; None for all of it.
    pooled: `(server message, Pool) -> (Aggregate, MetricSums)`, what clients
      and a weighted mean would give, for the whole cohort in one go; it returns
      None, while it is traced, if it can't for this model. Used only where
      nothing transforms the messages and the reducer is the weighted mean.
    local_steps: int [M] sizes -> int [M], the steps that clients of these
      sizes do (NumPy, on the host), for planning; any measure of work will do.
      With an attribute `counts_steps` that is True, it is the local steps
      themselves, and clients do no more of them than `ClientData.work`.
    local_cost: what such a step costs, and what clients compute beside them,
      for simulated time.
    evaluated: `(ServerState) -> Variables`, the one model that is evaluated on
      the test set; of an algorithm with several global models, the one that
      it says.
    asynchronous: what it asks for, if it is for asynchronous reports only; else
      None.
    edges: servers between clients and cloud, whose traffic is counted too.
    gossip: how clients mix their models after a round's local work. Their
      states are `topology.Peer`s then, and the messages of the round only tell
      the simulation how they went on; they do not travel.
    num_clients: N that it is made for; None for any.
  """

  init: Callable[[Variables, jax.Array, int], ServerState]
  client_init: Callable[[Variables], PyTree]
  broadcast: Callable[..., PyTree]
  client: ClientUpdate
  aggregator: Aggregator
  server: Callable[..., ServerState]
  personalize: Callable[..., Variables]
  phases: tuple[Phase, ...] = ()
  receive: Callable[[PyTree, Slot, Keys], PyTree] | None = None
  pooled: PooledUpdate | None = None
  local_steps: Callable[[np.ndarray], np.ndarray] = lambda sizes: sizes
  local_cost: LocalCost = LocalCost()
  evaluated: Callable[[ServerState], Variables] = lambda state: state.variables
  asynchronous: Asynchronous | None = None
  edges: Edges | None = None
  gossip: Gossip | None = None
  num_clients: int | None = None

  def __repr__(self) -> str:
    return (f'FederatedAlgorithm(made by {short.maker(self.client)}, '
            f'{self.aggregator})')

"""The few types everything is built from: NamedTuples of pure functions.

Axis letters: N clients in the federation, E examples in all, M clients in a
round's cohort, W lanes (clients computed side by side), B batch.

An example is a dict with `x`, what a model takes, and `y`, what it should
predict; both may be pytrees. Metrics travel as (sum, count) until they are
reported, so that they can be added up in any grouping.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

PyTree = Any
MetricSums = Mapping[str, tuple[jax.Array, jax.Array]]


class Variables(NamedTuple):
  """What a model has learnt: the weights, and the state that it tracks.

  Attributes:
    params: PyTree of float arrays; gradients are taken in them.
    model_state: PyTree of float arrays that a forward pass in training updates
      (BatchNorm's running statistics), `{}` for most models.
  """

  params: PyTree
  model_state: PyTree


class Model(NamedTuple):
  """A model with its loss and metrics.

  Attributes:
    init: `(key, inputs [B, ...]) -> Variables`. Only shapes and dtypes of the
      inputs matter.
    apply: `(params, model_state, inputs [B, ...], *, key, train, mask [B]) ->
      (outputs [B, ...], model_state)`. `inputs` are in the storage dtype of
      the data, so scaling pixels is part of the model. `key` is for dropout,
      `train` a Python bool. Rows where the bool `mask` is False are padding:
      they must not influence the other rows' outputs or the state.
    loss: `(outputs, examples [B, ...]) -> float32 [B]`, one value an example.
    metrics: `(outputs, examples) -> {name: (sum [B], count [B])}`, for each
      example. The loss is added to these by whoever evaluates.
  """

  init: Callable[..., Variables]
  apply: Callable[..., tuple[PyTree, PyTree]]
  loss: Callable[[PyTree, PyTree], jax.Array]
  metrics: Callable[[PyTree, PyTree], MetricSums]


class ClientData(NamedTuple):
  """One client's view of the federation's examples, inside a round.

  Under the engine's `vmap`, `offset` and `size` differ from lane to lane and
  `examples` are shared. `clients.batches` turns it into batches.

  Attributes:
    examples: PyTree [E, ...], those of all clients.
    offset: int32 [], where the client's examples begin.
    size: int32 [], how many it has; 0 in an empty slot.
    max_size: static bound on `size`, the length that orders are padded to.
    ragged: static; clients may differ in their number of local steps.
  """

  examples: PyTree
  offset: jax.Array
  size: jax.Array
  max_size: int
  ragged: bool


class Slot(NamedTuple):
  """One client in a round, as the plan has it.

  A *cohort* is a `Slot` of arrays [M]: all clients of a round in the order in
  which they were drawn.

  Attributes:
    client: int32 [], the client's number in the federation; 0 if empty.
    occurrence: int32 [], how often the client came before in the same cohort
      (0 unless sampled with replacement).
    present: bool [], False in an empty slot.
    offset: int32 [], where the client's examples begin in what the device
      holds.
    size: int32 [], how many there are; 0 in an empty slot.
    state_index: int32 [], where the client's state lies among those that the
      device holds; 0 in an empty slot.
    place: int32 [], its position in the cohort.
    arrives: bool [], whether the client's message reaches the server; None if
      all do.
    work: int32 [], local steps that it gets done; None for all of them.
    lag: int32 [], server steps since its model left; None for 0.
  """

  client: jax.Array
  occurrence: jax.Array
  present: jax.Array
  offset: jax.Array
  size: jax.Array
  state_index: jax.Array
  place: jax.Array
  arrives: jax.Array | None = None
  work: jax.Array | None = None
  lag: jax.Array | None = None


class Message(NamedTuple):
  """What a client returns to the server.

  Attributes:
    update: PyTree; for FedAvg a `Variables`, local minus server.
    weight: float32 [...], the weight of the update in the mean. Its shape is a
      prefix of every leaf's shape of `update`: a scalar weighs the whole
      update, a [K] vector weighs K stacked updates one by one (clusters).
    present: bool []; an absent slot is selected away, never multiplied,
      since 0 * NaN is NaN.
    aux: dict of PyTrees, added up plainly over the clients that are present.
    client: int32 [], the sender's number in the federation. The engine sets
      it; transforms read it (the masks of a secure sum are pairwise).
  """

  update: PyTree
  weight: jax.Array
  present: jax.Array
  aux: Mapping[str, PyTree]
  client: jax.Array | int = -1


class ClientOutput(NamedTuple):
  """What a client's work of one round gives.

  Attributes:
    message: what goes to the server.
    state: the client's own state, kept until it is next in a cohort.
    metrics: MetricSums of scalars, summed over the cohort and logged.
  """

  message: Message
  state: PyTree
  metrics: MetricSums


class Pool(NamedTuple):
  """The data of a whole cohort, for work that no client does on its own.

  Attributes:
    examples: PyTree [E, ...], those of all clients of the federation.
    offsets: int32 [S], where each slot's examples begin.
    sizes: int32 [S], how many there are; 0 in an empty slot.
    present: bool [S], False in an empty slot.
    keys: [S], the keys that the clients' updates would be given.
  """

  examples: PyTree
  offsets: jax.Array
  sizes: jax.Array
  present: jax.Array
  keys: jax.Array


# (what the server broadcasts, the client's state, ClientData, key) -> output.
# Written for one client; the engine maps it over lanes.
ClientUpdate = Callable[[PyTree, PyTree, ClientData, jax.Array], ClientOutput]


class Aggregate(NamedTuple):
  """What the server learns from a round.

  Attributes:
    mean: PyTree like a message's update: the weighted mean (or median, …).
    weight: float32, the sum of weights, of the shape of a message's weight.
    count: int32 [], the number of clients that were present.
    aux: the sums of the messages' aux.
  """

  mean: PyTree
  weight: jax.Array
  count: jax.Array
  aux: Mapping[str, PyTree]


class Reducer(NamedTuple):
  """Turns the messages of a round into one `Aggregate`, block by block.

  It alone multiplies by weight and divides.

  Attributes:
    init: `(message, num_slots) -> accumulator`, from the shapes of one message
      and the most messages that there can be in a round.
    accumulate: `(accumulator, messages [W, ...]) -> accumulator`.
    merge: `(accumulator, accumulator) -> accumulator`, for several devices;
      `trees.add` itself where it adds, which a mesh does best.
    finalize: `(accumulator, key) -> Aggregate`. With nobody present the mean
      is zero.
  """

  init: Callable[[Message, int], PyTree]
  accumulate: Callable[[PyTree, Message], PyTree]
  merge: Callable[[PyTree, PyTree], PyTree]
  finalize: Callable[[PyTree, jax.Array], Aggregate]


class MessageTransform(NamedTuple):
  """A change to messages on their way: clip, quantize, mask, corrupt …

  State shared by all clients can't change lane by lane; so a transform has a
  part that runs for each client and a part that runs once, on the server.

  Attributes:
    init: `(message) -> state`, the shared state, from a message's shapes.
    client_init: `(message) -> client state`, `()` for none.
    client: `(message, state, client state, key) -> (message, client state)`.
    server: `(state, aggregate, key) -> state`, after the round.
  """

  init: Callable[[Message], PyTree]
  client_init: Callable[[Message], PyTree]
  client: Callable[..., tuple[Message, PyTree]]
  server: Callable[[PyTree, Aggregate, jax.Array], PyTree]


class Aggregator(NamedTuple):
  """A round's aggregation: transforms in order, then one reducer.

  Made by `aggregation.chain`; its fields are those of `MessageTransform`,
  for the whole chain, and the reducer.
  """

  init: Callable[[Message], PyTree]
  client_init: Callable[[Message], PyTree]
  client: Callable[..., tuple[Message, PyTree]]
  server: Callable[[PyTree, Aggregate, jax.Array], PyTree]
  reducer: Reducer


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


PooledUpdate = Callable[
    [PyTree, Pool], tuple[Aggregate, MetricSums] | None]


class FederatedAlgorithm(NamedTuple):
  """An algorithm: who computes what. Nothing in it knows lanes or devices.

  Attributes:
    init: `(Variables, key, num_clients) -> ServerState`.
    client_init: `(Variables) -> client state` of a client that has not taken
      part yet, `()` for none.
    broadcast: `(ServerState) -> server message`.
    client: a `ClientUpdate`.
    aggregator: an `Aggregator`.
    server: `(ServerState, Aggregate, key) -> ServerState`. The engine counts
      the round.
    personalize: `(ServerState, client state, ClientData, key) -> Variables`
      that a client is evaluated with.
    pooled: `(server message, Pool) -> (Aggregate, MetricSums)`, what clients
      and aggregator would give, for the whole cohort in one go; None, while it
      is traced, if it can't for this model. Most algorithms have none.
    prepare: `(server message, Pool) -> Aggregate`, a first exchange with the
      cohort, before its clients start: they then take `(server message, mean
      of the aggregate)` for a server message. Most algorithms have none.
    local_steps: int [M] sizes -> int [M], the steps that clients of these
      sizes do (NumPy, on the host), for planning; any measure of work will do.
    evaluated: `(ServerState) -> Variables`, the one model that is evaluated on
      the test set; of an algorithm with several global models, the one that
      it says.
  """

  init: Callable[[Variables, jax.Array, int], ServerState]
  client_init: Callable[[Variables], PyTree]
  broadcast: Callable[[ServerState], PyTree]
  client: ClientUpdate
  aggregator: Aggregator
  server: Callable[[ServerState, Aggregate, jax.Array], ServerState]
  personalize: Callable[..., Variables]
  pooled: PooledUpdate | None = None
  prepare: Callable[[PyTree, Pool], Aggregate] | None = None
  local_steps: Callable[[np.ndarray], np.ndarray] = lambda sizes: sizes
  evaluated: Callable[[ServerState], Variables] = lambda state: state.variables

"""What an exchange between server and cohort takes and gives."""

from typing import Any, NamedTuple

import jax

from fedjax_sim.core.types import Aggregate, MetricSums, PyTree, Slot


class AggregatorState(NamedTuple):
  """What an exchange keeps from round to round.

  Attributes:
    transform: the transforms' shared states.
    reducer: the reducer's state.
    versions: `versions.Versions.ring`, what was sent in the last server steps;
      None where all clients begin with the newest version.
  """

  transform: PyTree
  reducer: PyTree
  versions: PyTree | None = None


class Held(NamedTuple):
  """What a device holds of its clients, [num_states, ...].

  Attributes:
    states: the algorithm's.
    memories: the transforms'.
  """

  states: PyTree
  memories: PyTree


class Heard(NamedTuple):
  """What has been said in a round before an exchange.

  Attributes:
    broadcasts: what the server has sent, one for each exchange.
    aggregates: what it has learnt.
  """

  broadcasts: tuple[PyTree, ...] = ()
  aggregates: tuple[Aggregate, ...] = ()


class Totals(NamedTuple):
  """Sums over clients.

  Attributes:
    metrics: MetricSums of the training of those whose messages were not
      rejected.
    bits: int32 [2], what they have sent, as `costs.whole` has it; None where
      each sends the same, which is known beforehand.
    started: int32 [], how many took part; None where all messages arrive.
  """

  metrics: MetricSums
  bits: jax.Array | None
  started: jax.Array | None


class Faults(NamedTuple):
  """What of the slots [D, blocks, W] was NaN or infinite, of those that count.

  Attributes:
    loss: bool, the metrics of training.
    update: bool, the message as it is sent, or its weight.
  """

  loss: jax.Array
  update: jax.Array


class Result(NamedTuple):
  """What an exchange gives.

  Attributes:
    heard: with what was said in it.
    state: of the aggregation.
    clients: the clients' new states.
    totals: of all devices' clients.
    faults: of all slots; None where the cohort trained as a whole.
    metrics: part of the aggregation -> name -> value.
    bits_down: int32 [2], what each client was sent; None where it is known
      beforehand.
  """

  heard: Heard
  state: AggregatorState
  clients: Held
  totals: Totals
  faults: Faults | None
  metrics: dict[str, Any]
  bits_down: jax.Array | None


class Surroundings(NamedTuple):
  """What an exchange of one round works with.

  Attributes:
    examples: PyTree [E, ...] that the device holds.
    key: the round's key.
    slots: Slot [blocks, W], the device's.
    frozen: the model's frozen weights, None if it has none.
    everyone: Slot [D, blocks, W], all devices'; None where there is one device
      or no transform asks for the cohort.
  """

  examples: PyTree
  key: jax.Array
  slots: Slot
  frozen: PyTree = None
  everyone: Slot | None = None

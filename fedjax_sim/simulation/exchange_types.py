"""What an exchange between server and cohort takes and gives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from fedjax_sim.core.types import (
    Aggregate,
    Message,
    MetricSums,
    PyTree,
    Slot,
)


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


class Asked(NamedTuple):
  """What the host asks a round to tell of each slot; static.

  Attributes:
    loss: the loss of local training.
    squares: `(Variables, ClientData) -> float32 [2]`, which is told of the
      round's model before it is trained; None for nothing.
    bits: what each client sends, where that varies.
  """

  loss: bool = False
  squares: Callable | None = None
  bits: bool = False

  @property
  def of_training(self) -> bool:
    """Whether anything can be told by a client's own training alone."""
    return self.loss or self.squares is not None


class Told(NamedTuple):
  """What is told of the slots [D, blocks, W]; None what nobody has asked for.

  It is zero where the message does not count.

  Attributes:
    loss: float32 [..., 2], sum and count of the loss of local training.
    squares: float32 [..., 2], what `Asked.squares` gives.
    bits: int32 [..., 2], what the client has sent, as `costs.whole` has it;
      None too where each sends the same.
  """

  loss: jax.Array | None = None
  squares: jax.Array | None = None
  bits: jax.Array | None = None


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
    told: of all slots.
  """

  heard: Heard
  state: AggregatorState
  clients: Held
  totals: Totals
  faults: Faults | None
  metrics: dict[str, Any]
  bits_down: jax.Array | None
  told: Told = Told()


class Surroundings(NamedTuple):
  """What an exchange of one round works with.

  Attributes:
    examples: PyTree [E, ...] that the device holds.
    key: the round's key.
    slots: Slot [blocks, W], the device's.
    frozen: the model's frozen weights, None if it has none.
    everyone: Slot [D, blocks, W], all devices'; None where there is one device
      or no transform asks for the cohort.
    variables: the model that is evaluated, as the round finds it; None where
      nobody asks for it.
  """

  examples: PyTree
  key: jax.Array
  slots: Slot
  frozen: PyTree = None
  everyone: Slot | None = None
  variables: PyTree = None


def with_own_sums(message: Message) -> Message:
  """A client's message with its sums told apart from those of transforms."""
  return message._replace(
      sums={'algorithm': message.sums} if message.sums else {})

"""How many bytes a client receives and sends in a round."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from fedjax_sim.core.types import FederatedAlgorithm, PyTree, Variables
from fedjax_sim.simulation.rounds import Rounds, Walked


class Traffic(NamedTuple):
  """Bytes of one client in one round: what it receives, and what it sends.

  Of the exchanges of a round these are the ones in which they are the same for
  all clients in every round. Of the others `RoundOutputs` has the bits.
  """

  down: float
  up: float

  def add(self, record: dict) -> None:
    """Completes the bytes of a round's record.

    Who took part has received. Messages that arrived count as sent; in
    simulated time `in_time` adds what others sent in vain.

    Args:
      record: with `clients` whose messages arrived, `started` where some did
        not, and the bytes that vary.
    """
    clients = record['clients']
    record['bytes_up'] = record.get('bytes_up', 0) + clients * self.up
    record['bytes_down'] = record.get('bytes_down', 0) + self.down * (
        record.get('started', clients))


def per_client(
    algorithm: FederatedAlgorithm, examples: PyTree, variables: Variables
) -> Traffic:
  """Counts what an algorithm's messages hold, in all exchanges of a round.

  That is what `broadcast` gives, or what `receive` leaves of it; of a message
  its update, as the aggregator's transforms send it, weight and sums.

  Args:
    algorithm: the algorithm.
    examples: PyTree [E, ...]; only shapes and dtypes matter.
    variables: of the model; likewise.
  """
  down, up = read_walk(algorithm, examples, variables, lambda walked: [
      sum(x for x in every if not isinstance(x, jax.Array))
      for every in ([w.down for w in walked], [w.up for w in walked])])
  return Traffic(_bytes(down), _bytes(up))


def read_walk(
    algorithm: FederatedAlgorithm, examples: PyTree, variables: Variables,
    read: Callable[[list[Walked]], Any],
) -> Any:
  """What `read` finds in a client's exchanges of a round; nothing is computed.

  Args:
    algorithm: the algorithm.
    examples: PyTree [E, ...]; only shapes and dtypes matter.
    variables: of the model; likewise.
    read: takes what each exchange comes to, and returns Python numbers.
  """
  one = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), examples)
  rounds = Rounds(
      algorithm=algorithm, num_clients=1, devices=1, max_size=1, ragged=False,
      cohort_size=1, num_states=1)
  found = []

  def walk(examples, variables, key):
    found.append(read(rounds.walk(
        examples, algorithm.init(variables, key, 1),
        algorithm.client_init(variables), variables.frozen)))
    return ()

  jax.eval_shape(walk, one, variables, jax.random.key(0))
  return found[-1]


def _bytes(bits: float) -> float:
  return int(bits) // 8 if bits % 8 == 0 else bits / 8

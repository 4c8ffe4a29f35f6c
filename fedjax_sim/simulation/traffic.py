"""How many bytes a client receives and sends in a round."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from fedjax_sim.core import frozen, precision, trees
from fedjax_sim.core.topology import Edges
from fedjax_sim.core.types import FederatedAlgorithm, PyTree, Variables
from fedjax_sim.simulation import gossip
from fedjax_sim.simulation.rounds import Rounds, Walked


class Traffic(NamedTuple):
  """Bytes of one client in one round: what it receives, and what it sends.

  Of the exchanges of a round these are the ones in which they are the same for
  all clients in every round. Of the others `RoundOutputs` has the bits.

  Attributes:
    down: see above.
    up: see above.
    besides: `(record) -> fields of bytes`, what travels in its round between
      others than a client and a server of clients; None for nothing.
  """

  down: float
  up: float
  besides: Callable[[Mapping[str, Any]], dict[str, float]] | None = None

  def add(self, record: dict) -> None:
    """Completes the bytes of a round's record.

    Who took part has received. Messages that arrived count as sent; in
    simulated time `in_time` adds what others sent in vain.

    Args:
      record: with its `round`, from 1, `clients` whose messages arrived,
        `started` where some did not, and the bytes that vary: `bytes_up` of
        all, and `bytes_down_each`.
    """
    clients = record['clients']
    record['bytes_up'] = record.get('bytes_up', 0) + clients * self.up
    down = self.down + record.pop('bytes_down_each', 0)
    record['bytes_down'] = down * record.get('started', clients)
    if self.besides is not None:
      for name, value in self.besides(record).items():
        record[name] = record.get(name, 0) + value


def per_client(
    algorithm: FederatedAlgorithm, examples: PyTree, variables: Variables
) -> Traffic:
  """Counts what an algorithm's messages hold, in all exchanges of a round.

  That is what `broadcast` gives, or what `receive` leaves of it; of a message
  its update, as the aggregator's transforms send it, weight and sums. Where
  clients gossip, nothing goes to a server and back.

  Args:
    algorithm: the algorithm.
    examples: PyTree [E, ...]; only shapes and dtypes matter.
    variables: of the model; likewise.
  """
  size = trees.num_bytes(frozen.without(variables))
  if algorithm.gossip is not None:
    return Traffic(0, 0, lambda record: gossip.sent(record, size))
  down, up = read_walk(algorithm, examples, variables, lambda walked: [
      sum(x for x in every if not isinstance(x, jax.Array))
      for every in ([w.down for w in walked], [w.up for w in walked])])
  besides = None
  if algorithm.edges is not None:
    besides = lambda record: _of_edges(algorithm.edges, size, record)
  return Traffic(_bytes(down), _bytes(up), besides)


def _of_edges(
    edges: Edges, size: int, record: Mapping[str, Any]
) -> dict[str, float]:
  """Bytes between edges and the cloud, in its rounds.

  A model each way, and up the weight of what has reported to the edge.

  Args:
    edges: how many, and how often.
    size: of a model, in bytes.
    record: of a round. In a failed one the cloud does nothing.
  """
  talks = record['round'] % edges.every == 0 and not record.get('failed')
  count = edges.count if talks else 0
  return {'bytes_edge_up': count * (size + precision.scalar().itemsize),
          'bytes_edge_down': count * size}


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

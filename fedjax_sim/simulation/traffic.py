"""How many bytes a client receives and sends in a round."""

from typing import NamedTuple

import jax

from fedjax_sim.core.types import FederatedAlgorithm, PyTree, Variables
from fedjax_sim.simulation.rounds import Rounds


class Traffic(NamedTuple):
  """Bytes of one client in one round: what it receives, and what it sends.

  None where they differ from client to client or from round to round; then
  `RoundOutputs` has their sums.
  """

  down: float | None
  up: float | None

  def of(self, clients: int, started: int) -> dict[str, float]:
    """The fields of a round's record that don't vary from round to round.

    Args:
      clients: whose messages arrived.
      started: who took part.
    """
    fields = {}
    if self.up is not None:
      fields['bytes_up'] = clients * self.up
    if self.down is not None:
      fields['bytes_down'] = started * self.down
    return fields


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
  one = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), examples)
  rounds = Rounds(
      algorithm=algorithm, num_clients=1, devices=1, max_size=1, ragged=False,
      cohort_size=1, num_states=1)
  bits = []

  def walk(examples, variables, key):
    walked = rounds.walk(
        examples, algorithm.init(variables, key, 1),
        algorithm.client_init(variables), variables.frozen)
    bits.append([sum(w.down for w in walked), sum(w.up for w in walked)])
    return ()

  jax.eval_shape(walk, one, variables, jax.random.key(0))
  return Traffic(*map(_bytes, bits[-1]))


def _bytes(bits) -> float | None:
  if isinstance(bits, jax.Array):
    return None
  return int(bits) // 8 if bits % 8 == 0 else bits / 8

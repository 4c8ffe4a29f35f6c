"""Examples of a few rounds' cohorts at a time, for large federations.

What lies on a device is a buffer for the clients that it computes in a window
of rounds, each client once. Buffers are of one size, which holds any round.
`stored_states` does the same with the clients' states.
"""

from typing import NamedTuple

import jax
import numpy as np

from fedjax_sim.core.types import PyTree
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation.placement import sharding
from fedjax_sim.simulation.plan import Plan

# A buffer takes at least this, so that a window is more than a round or two.
_BUFFER_BYTES = 2 ** 26


class Loads(NamedTuple):
  """What devices' buffers hold.

  Attributes:
    places: int32 [R, D, blocks, W], where a slot's client begins in the buffer.
    clients: for each device the clients, int [·], in the order of their places.
    num_rounds: how many rounds the buffers hold.
  """

  places: np.ndarray
  clients: list[np.ndarray]
  num_rounds: int


def buffer_size(data: FederatedData, cohort_size: int) -> int:
  """Examples of a buffer: any cohort fits, even if one device gets all of it.

  The `cohort_size` largest clients are the most that a round can have.
  """
  largest = np.partition(data.sizes, -cohort_size)[-cohort_size:]
  example_bytes = sum(
      x.dtype.itemsize * int(np.prod(x.shape[1:]))
      for x in jax.tree.leaves(data.examples))
  size = max(int(largest.sum()), _BUFFER_BYTES // max(example_bytes, 1))
  return min(size, data.num_examples)


def load(
    plan: Plan, num_rounds: int, sizes: np.ndarray, room: int
) -> Loads:
  """Fits as many rounds into buffers as go, at least one.

  Args:
    plan: R rounds, the first `num_rounds` of them in use.
    num_rounds: how many.
    sizes: int [R, D, blocks, W], what a slot's client takes.
    room: of a buffer, which must hold any round.
  """
  devices = plan.slots.client.shape[1]
  places = [{} for _ in range(devices)]
  used = [0] * devices
  starts = np.zeros_like(plan.slots.offset)
  for r in range(num_rounds):
    fresh = [_fresh(plan, sizes, r, d, places[d]) for d in range(devices)]
    needed = [used[d] + sum(fresh[d].values()) for d in range(devices)]
    if r and max(needed) > room:
      num_rounds = r
      break
    for d in range(devices):
      for client, size in fresh[d].items():
        places[d][client] = used[d]
        used[d] += size
      present = plan.slots.present[r, d]
      starts[r, d][present] = [
          places[d][c] for c in plan.slots.client[r, d][present].tolist()]
  held = [np.fromiter(place, np.int64, len(place)) for place in places]
  return Loads(starts, held, num_rounds)


def fill_buffers(
    data: FederatedData, loads: Loads, room: int,
    placement: sharding.Placement,
) -> PyTree:
  """The buffers' examples [D * room, ...], each device's part on it.

  Only what the devices of this process need is read.
  """
  def one(leaf: np.ndarray) -> jax.Array:
    def part(index):
      clients = loads.clients[(index[0].start or 0) // room]
      buffer = np.zeros((room, *leaf.shape[1:]), leaf.dtype)
      end = 0
      for client in clients:
        first, last = data.offsets[client:client + 2]
        begin, end = end, end + int(last - first)
        buffer[begin:end] = leaf[first:last]
      return buffer
    shape = (placement.size * room, *leaf.shape[1:])
    return jax.make_array_from_callback(shape, placement.split(), part)

  return jax.tree.map(one, data.examples)


def _fresh(plan: Plan, sizes, r: int, d: int, places) -> dict[int, int]:
  """Client -> size, of those that the device doesn't hold yet."""
  present = plan.slots.present[r, d]
  return {c: n for c, n in zip(plan.slots.client[r, d][present].tolist(),
                               sizes[r, d][present].tolist(), strict=True)
          if c not in places}

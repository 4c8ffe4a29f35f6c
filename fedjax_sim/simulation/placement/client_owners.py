"""Clients that belong to devices: state and, if asked for, examples.

Device d of D owns the d-th block of client numbers. Who is sampled does not
depend on it; the price is that a round's work is where its clients are, which
`plan.imbalance` tells.
"""

import jax
import numpy as np

from fedjax_sim.core.types import PyTree
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation.placement import sharding
from fedjax_sim.simulation.plan import Plan


def clients_per_device(num_clients: int, devices: int) -> int:
  """The size of a block; the last device's may hold fewer, or none."""
  return -(-num_clients // devices)


def owners(num_clients: int, devices: int) -> np.ndarray:
  """int [N], the device that owns a client."""
  return np.arange(num_clients) // clients_per_device(num_clients, devices)


def to_owners(data: FederatedData, placement: sharding.Placement) -> PyTree:
  """Each device's clients' examples on it: [D * most, ...].

  Of several processes each reads what its devices own.
  """
  bounds = _bounds(data, placement.size)
  most = max(int(np.diff(bounds).max()), 1)

  def one(leaf: np.ndarray) -> jax.Array:
    def part(index):
      device = (index[0].start or 0) // most
      held = leaf[bounds[device]:bounds[device + 1]]
      filled = np.zeros((most, *leaf.shape[1:]), leaf.dtype)
      filled[:len(held)] = held
      return filled
    shape = (placement.size * most, *leaf.shape[1:])
    return jax.make_array_from_callback(shape, placement.split(), part)

  return jax.tree.map(one, data.examples)


def rebase(plan: Plan, data: FederatedData) -> Plan:
  """The plan with offsets into what each device holds."""
  slots = plan.slots
  starts = _bounds(data, slots.client.shape[1])[:-1]
  local = slots.offset - starts[:, None, None]
  return plan._replace(slots=slots._replace(
      offset=np.where(slots.present, local, 0).astype(np.int32)))


def _bounds(data: FederatedData, devices: int) -> np.ndarray:
  """int64 [D + 1], where each device's examples begin, and where all end."""
  block = clients_per_device(data.num_clients, devices)
  first = np.minimum(np.arange(devices + 1) * block, data.num_clients)
  return np.asarray(data.offsets)[first].astype(np.int64)

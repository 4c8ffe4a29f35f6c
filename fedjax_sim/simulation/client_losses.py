"""Losses of clients with the global model, for who chooses by them."""

from collections.abc import Callable

import jax
import numpy as np

from fedjax_sim.clients.measure import local_losses
from fedjax_sim.core import frozen, random
from fedjax_sim.core.types import ClientData, FederatedAlgorithm, Model
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.data.selector import Selector
from fedjax_sim.simulation.exchange_types import Asked
from fedjax_sim.simulation.placement import collectives, sharding


def asked(model: Model, selector: Selector | None, bits: bool) -> Asked:
  """What a round is to tell of each slot.

  Args:
    model: the model.
    selector: chooses the cohorts, None for one that needs nothing.
    bits: whether to tell what each client sends.
  """
  hears = None if selector is None else selector.hears
  squares = None
  if hears == 'squares':
    squares = lambda variables, data: local_losses(
        model, variables, data, power=2)
  return Asked(loss=hears == 'loss', squares=squares, bits=bits)


def measuring(
    model: Model, algorithm: FederatedAlgorithm, train: FederatedData,
    selector: Selector | None, placement: sharding.Placement, lanes: int,
) -> Callable[..., np.ndarray] | None:
  """A function that measures the mean losses of clients; compiled once.

  It is None for a selector that needs none.

  It takes the examples on the devices, frozen weights, the root key, the server
  state, the round's number and clients, int [n] of at most
  `selector.candidates`, and returns float64 [n]; NaN for one without examples.
  """
  if selector is None or not selector.candidates:
    return None
  width = -(-selector.candidates // placement.size)
  everywhere, split = placement.everywhere, placement.split()

  def run(examples, weights, key, server, number, slots):
    variables = algorithm.evaluated(frozen.put(server, weights))
    round_key = random.round_key(key, number)

    def one(slot):
      client, offset, size = slot
      own = None
      if selector.batch_size is not None:
        own = random.named(
            random.client_key(round_key, client, np.int32(0)), 'measure')
      data = ClientData(examples, offset, size, train.max_size, True)
      return local_losses(
          model, variables, data, key=own,
          batch_size=selector.batch_size or 256)

    sums = jax.lax.map(one, slots, batch_size=min(lanes, width))
    if placement.size > 1:
      sums = collectives.gathered(sums, axis=0)
    return sums

  program = sharding.spread(
      run, placement, in_specs=(*[everywhere] * 5, split),
      out_specs=everywhere)

  def measure(examples, weights, key, server, number, clients):
    slots = np.zeros((3, width * placement.size), np.int32)
    slots[:, :len(clients)] = (
        clients, train.offsets[clients], train.sizes[clients])
    sums = np.asarray(jax.device_get(program(
        examples, weights, key, server, np.int32(number),
        sharding.to_devices(tuple(slots), split))), np.float64)[:len(clients)]
    with np.errstate(invalid='ignore'):
      return sums[:, 0] / sums[:, 1]

  return measure

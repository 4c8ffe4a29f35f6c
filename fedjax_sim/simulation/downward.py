"""The way down: what of a broadcast a client is sent, and what arrives."""

from collections.abc import Callable

import jax

from fedjax_sim.core import frozen, random
from fedjax_sim.core.types import Keys, MessageTransform, PyTree, Slot


def part(
    receive: Callable[..., PyTree], round_key, broadcast: PyTree, slot: Slot
) -> PyTree:
  """What of a broadcast a client is sent; `receive` is the algorithm's."""
  keys = Keys(round_key, random.client_key(
      round_key, slot.client, slot.occurrence))
  return receive(broadcast, slot, Keys(
      *(random.named(key, 'receive') for key in keys)))


def delivered(
    transform: MessageTransform | None, message: PyTree, state, key,
    weights: PyTree,
):
  """A message as it arrives, the transforms' state, and bits.

  These are None where the whole message travels as it is.

  Args:
    transform: the aggregator's.
    message: what is sent.
    state: the transforms'.
    key: of the round.
    weights: frozen ones, which do not travel; None for none.
  """
  if transform is None or transform.broadcast is None:
    return message, state, None
  message, state, bits = transform.broadcast(
      frozen.without(message), state, key)
  return frozen.put(message, weights), state, bits


def delivered_part(*args) -> PyTree:
  """`delivered` of a client's own part: the message alone.

  Raises:
    ValueError: its bits depend on the message, so that they are not the same
      for all clients.
  """
  message, _, bits = delivered(*args)
  check_fixed(args[0], bits)
  return message


def check_fixed(transform: MessageTransform | None, bits) -> None:
  """ValueError if bits of a client's own part depend on what it says."""
  if isinstance(bits, jax.Array):
    names = [repr(part.name.removeprefix('downlink '))
             for part in transform.parts or (transform,) if part.broadcast]
    raise ValueError(
        'downlink must have a fixed cost where restrict gives each client a '
        f'submodel of its own, got {" and ".join(names)}, of which the bits '
        'vary with what is sent.')

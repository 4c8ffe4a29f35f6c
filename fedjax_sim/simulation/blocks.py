"""A device's clients in blocks of W lanes, one block after the other."""

from collections.abc import Callable

import jax
from jax import numpy as jnp

from fedjax_sim.core import lanes, trees
from fedjax_sim.core.types import PyTree, Reducer, Slot
from fedjax_sim.simulation.exchange_types import Faults, Held, Told, Totals


def run(
    work: Callable, send: Callable, tell: Callable, reducer: Reducer,
    slots: Slot, carry, num_states: int,
):
  """The device's blocks: up to the last from which a message arrives.

  Those that hold anybody come first.

  Args:
    work: `(Slot, client state) -> ClientOutput`.
    send: `(Slot, message, memory) -> (message as it is sent, memory, bits)`.
    tell: `(Slot, ClientOutput, bits) -> Told`.
    reducer: accumulates the messages.
    slots: Slot [blocks, W].
    carry: (accumulator, Held, Totals, (Faults, Told) [blocks, W]) to begin
      with.
    num_states: clients whose state the device holds.

  Returns:
    The carry after the last block.
  """
  used = jnp.sum(slots.present[:, 0], dtype=jnp.int32)
  if slots.arrives is not None:
    numbers = jnp.arange(1, len(slots.present) + 1, dtype=jnp.int32)
    used = jnp.max(jnp.where(slots.is_heard.any(axis=1), numbers, 0))

  def body(i, carry):
    *carry, rows = carry
    *carry, new = _block(
        work, send, tell, reducer, carry, jax.tree.map(lambda x: x[i], slots),
        num_states)
    return *carry, jax.tree.map(lambda x, y: x.at[i].set(y), rows, new)

  return jax.lax.fori_loop(0, used, body, carry)


def _block(
    work, send, tell, reducer: Reducer, carry, slots: Slot, num_states: int):
  """W clients side by side, their messages accumulated; (Faults, Told) [W]."""
  accumulator, clients, totals = carry

  def one_client(slot, client_state, memory):
    output = work(slot, client_state)
    sent, memory, bits = send(slot, output.message, memory)
    rejected = output.message.present & ~jnp.asarray(sent.present)
    faults = Faults(trees.any_bad(output.metrics),
                    trees.any_bad((sent.update, sent.weight)))
    if reducer.tolerant:
      rejected |= faults.loss | faults.update
    return ((sent, memory, bits), output.state, output.metrics, rejected,
            faults, tell(slot, output, bits))

  held = jax.tree.map(lambda x: x[slots.state_index], clients)
  (messages, memories, bits), states, metrics, rejected, faults, told = (
      lanes.side_by_side(one_client)(slots, *held))
  messages = messages._replace(slot=slots)
  # Absent slots write outside of the arrays, that is, nowhere.
  target = jnp.where(messages.present, slots.state_index, num_states)
  clients = jax.tree.map(
      lambda x, y: x.at[target].set(y, mode='drop'), clients,
      Held(states, memories))
  new = Totals(_kept(slots.is_heard & ~rejected, metrics),
               _kept(messages.present, bits), None)
  totals = jax.tree.map(
      lambda t, x: t + x.sum(0, dtype=x.dtype), totals, new)
  counted = Faults(slots.is_heard & ~rejected, messages.present & ~rejected)
  return (reducer.accumulate(accumulator, messages), clients, totals,
          (jax.tree.map(jnp.logical_and, faults, counted),
           Told(*(_kept(messages.present, x) for x in told))))


def _kept(present: jax.Array, rows: PyTree) -> PyTree:
  return trees.where(present, rows, jax.tree.map(jnp.zeros_like, rows))

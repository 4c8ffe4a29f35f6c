"""Whole runs side by side: one compiled program for all members of a sweep.

Members differ in their seed, their federation and numeric hyperparameters,
which are traced: a new learning rate compiles nothing. Members are dealt to the
devices, each of which runs its own one after the other, or some at a time by
`vmap`; nothing crosses between them. Which members take part in a dispatch is
traced too, so one can be dropped at any time.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core import lanes
from fedjax_sim.core.types import PyTree, Slot
from fedjax_sim.simulation.placement import sharding
from fedjax_sim.simulation.plan import Plan
from fedjax_sim.simulation.rounds import Rounds, SimulationState

# Numeric hyperparameters, traced -> a member's rounds.
MakeRounds = Callable[[Mapping[str, jax.Array]], Rounds]


class Members(NamedTuple):
  """What the program takes of the members; S places on each of D devices.

  Attributes:
    states: SimulationState [D * S, ...].
    slots: Slot [D * S, R, 1, blocks, W], the plans.
    hyperparameters: name -> float32 [D * S].
    keys: [D * S], root keys.
  """

  states: SimulationState
  slots: Slot
  hyperparameters: dict[str, jax.Array]
  keys: jax.Array


class Turn(NamedTuple):
  """Who runs in a dispatch.

  Attributes:
    places: int32 [D, groups, G], of the device's own members; S where there is
      nobody. Groups that hold anybody come first.
    counts: int32 [D], how many groups hold anybody.
  """

  places: np.ndarray
  counts: np.ndarray


def turn(active: np.ndarray, devices: int, together: int) -> Turn:
  """Packs members into groups.

  Args:
    active: bool [D * S], who runs.
    devices: D.
    together: G.
  """
  active = active.reshape(devices, -1)
  size = active.shape[1]
  groups = -(-size // together)
  places = np.full((devices, groups * together), size, np.int32)
  for device in range(devices):
    here = np.flatnonzero(active[device])
    places[device, :len(here)] = here
  counts = -(-active.sum(axis=1) // together)
  return Turn(
      places.reshape(devices, groups, together), counts.astype(np.int32))


def build(
    make_rounds: MakeRounds, placement: sharding.Placement
) -> jax.stages.Wrapped:
  """The program of a sweep.

  Args:
    make_rounds: hyperparameters -> the rounds of one member, on one device.
    placement: D devices.

  Returns:
    `(examples, Members, evaluate bool [R], Turn, first, last, eval_data, frozen
    weights) -> (SimulationState, RoundOutputs [D * S, R])`, jit-compiled. It
    runs rounds `first` to `last - 1` of the plans for the members whose turn it
    is. Outputs of other members are zeros.
  """
  everywhere, split = placement.everywhere, placement.split()

  def run(examples, members, evaluate, turn, first, last, eval_data, weights):
    def one(state, slots, hyperparameters, key):
      return make_rounds(hyperparameters).run(
          examples, state, Plan(slots, evaluate), first, last, key, eval_data,
          weights)

    def group(i, carry):
      states, outputs = carry
      places = turn.places[0, i]
      args = _at(Members(states, *members[1:]), places)
      write = lambda old, new: jax.tree.map(
          lambda x, y: x.at[places].set(y, mode='drop'), old, new)
      new_states, new_outputs = lanes.side_by_side(one)(*args)
      return write(states, new_states), write(outputs, new_outputs)

    shapes = jax.eval_shape(
        lambda *args: one(*args)[1],
        *jax.tree.map(lambda x: x[0], members))
    outputs = jax.tree.map(
        lambda x: jnp.zeros((len(members.keys), *x.shape), x.dtype), shapes)
    return jax.lax.fori_loop(
        0, turn.counts[0], group, (members.states, outputs))

  return sharding.spread(
      run, placement,
      in_specs=(everywhere, Members(split, split, split, split), everywhere,
                Turn(split, split), everywhere, everywhere, everywhere,
                everywhere),
      out_specs=(split, split))


def _at(tree: PyTree, places: jax.Array) -> PyTree:
  """What is there of every leaf; where nobody is, what is at the last place."""
  return jax.tree.map(lambda x: x[jnp.minimum(places, len(x) - 1)], tree)

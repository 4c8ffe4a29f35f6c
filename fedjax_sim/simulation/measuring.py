"""Which of several simulations is fastest, so that a noisy second can't say.

Candidates take turns, and one is called slower only if it was so in so many of
the turns that chance is ruled out. While others use the machine nothing is
decided: a neighbour on one core makes two devices look slow for as long as it
runs.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sim.core import machine_load
from fedjax_sim.simulation.placement import sharding

Choice = tuple[int, int]  # Devices, lanes.

# A shortened round that takes this long can be told from noise, and is not
# mainly what a round costs beside its steps.
_PROBE_SECONDS = 0.3
_REPEATS = 2
# After two candidates in a row that are slower than this, times the best, the
# rest is not tried.
_HOPELESS = 1.1
# Up to this, times the best, candidates are compared turn by turn.
_FINALIST = 1.4
# Turns, and seconds of them all.
_MIN_TURNS, _MAX_TURNS, _MAX_SECONDS = 11, 40, 60.0
# How probable it may be that a candidate lost so many turns by chance: little,
# since it is asked after every turn.
_CHANCE = 0.0005
# Times closer than this make no difference.
_TIE = 1.03
# The share of the machine that others may use meanwhile.
_OTHERS = 0.2


class Measured(NamedTuple):
  """What measuring has shown.

  Attributes:
    best: the simulation to use: the fastest, or if that isn't clear the first.
    seconds: choice -> of a shortened round.
    unclear: why it isn't clear which is fastest; empty if it is.
  """

  best: Any
  seconds: dict[Choice, float]
  unclear: str


def fastest(
    make: Callable[[int, int], Any], choices: Sequence[Choice]
) -> Measured:
  """The fastest simulation that fits into memory.

  Args:
    make: (devices, lanes) -> `Simulation`.
    choices: in the order in which to try them; the first is taken where times
      don't tell.

  Raises:
    ValueError: none fits.
  """
  load = machine_load.now()
  tried, seconds, fraction = _first_pass(make, choices)
  limit = _FINALIST * min(seconds.values())
  default = next(iter(tried))  # Which one slow second doesn't rule out.
  finalists = [choice for choice in tried
               if choice == default or seconds[choice] < limit]
  winner = default
  if len(finalists) > 1:
    times = {choice: [] for choice in finalists}
    winner = _in_turns(
        times, lambda choice: _time(tried[choice], fraction, 1), default)
    seconds |= {choice: float(np.median(t)) for choice, t in times.items()}
  unclear = '' if winner is not None else 'the times differ too little'
  if _others_share(load) > _OTHERS:
    winner, unclear = None, 'other programs use this machine'
  return Measured(tried[winner or default], seconds, unclear)


def _first_pass(make, choices):
  """(choice -> simulation, choice -> seconds, the part of clients' data)."""
  seconds: dict[Choice, float] = {}
  fraction, misses, errors, tried = None, {}, {}, {}
  for choice in choices:
    if misses.get(choice[0], 0) == 2:
      continue
    simulation = make(*choice)
    try:
      _ = simulation.program.compiled
    except ValueError as error:  # It doesn't fit into memory.
      errors[choice] = error
      continue
    fraction = fraction or _probe_fraction(simulation)
    seconds[choice] = _time(simulation, fraction, _REPEATS)
    tried[choice] = simulation
    if seconds[choice] > _HOPELESS * min(seconds.values()):
      misses[choice[0]] = misses.get(choice[0], 0) + 1
  if not tried:
    raise errors[min(errors)]  # With what takes least.
  return tried, seconds, fraction


def _in_turns(
    times: dict[Choice, list[float]], time_of: Callable[[Choice], float],
    default: Choice,
) -> Choice | None:
  """Times all in turns until it is clear which is best; None if it isn't."""
  order = list(times)
  for turn in range(1, _MAX_TURNS + 1):
    for choice in order:
      times[choice].append(time_of(choice))
    order.reverse()  # What drifts meets all alike.
    if turn >= _MIN_TURNS:
      winner = verdict(times, default)
      if winner is not None:
        return winner
      if sum(map(sum, times.values())) > _MAX_SECONDS:
        return None
  return None


def verdict(
    times: dict[Choice, list[float]], default: Choice
) -> Choice | None:
  """The best by the turns so far; None while that isn't clear.

  Args:
    times: choice -> seconds in each turn, equally many.
    default: to be taken where it is as good as the best.
  """
  medians = {choice: np.median(t) for choice, t in times.items()}
  best = min(medians, key=medians.get)
  rivals = [choice for choice in times
            if choice != best and not _slower(times[choice], times[best])]
  if not rivals:
    return default if medians[default] < _TIE * medians[best] else best
  turns = len(times[best])
  if turns >= 2 * _MIN_TURNS and all(
      medians[choice] < _TIE * medians[best] for choice in rivals):
    return default if default in rivals else best
  return None


def _slower(times: Sequence[float], best: Sequence[float]) -> bool:
  """Whether it lost more turns than chance explains: a sign test."""
  turns = len(best)
  lost = sum(a > b for a, b in zip(times, best, strict=True))
  ways = sum(math.comb(turns, k) for k in range(lost, turns + 1))
  return ways / 2 ** turns < _CHANCE


def _others_share(before: machine_load.Load) -> float:
  """What others have used; 0 where they may be processes of this job."""
  if jax.process_count() > 1:
    return 0.0
  return machine_load.now().share_since(before)


def _probe_fraction(simulation) -> float:
  """How much of every client makes a round that is long enough to be timed."""
  fraction = min(1.0, 16 / simulation.train.max_size)
  while fraction < 1 and _time(simulation, fraction, 1) < _PROBE_SECONDS:
    fraction = min(1.0, 4 * fraction)
  return fraction


def _time(simulation, fraction: float, repeats: int) -> float:
  """Seconds of the first round with clients cut to a fraction, the least."""
  state = simulation.init_on_devices()
  window = simulation.window(0, 1)
  slots = window.plan.slots
  size = np.ceil(fraction * slots.size).astype(np.int32)
  plan = simulation.place(
      window.plan._replace(slots=slots._replace(size=size)))
  times = []
  for _ in range(repeats + 1):  # The first is to warm up.
    begun = time.perf_counter()
    state, _ = jax.block_until_ready(
        simulation.call(window.examples, state, plan, 0, 1))
    times.append(time.perf_counter() - begun)
  return float(sharding.agree(min(times[1:]))[0])

"""Simulated time by what messages have really cost.

Who reports is decided ahead of the round, on what is known of messages
beforehand (`systems.timeline`). Where a coder's bits vary, the round's seconds
come from the bits of those that were waited for, once they are known: on the
host, in float64. The time at which a round begins, which windows of eligibility
are read at, stays that of the timeline.
"""

import numpy as np

from fedjax_sim.core import costs
from fedjax_sim.simulation.rounds import RoundOutputs
from fedjax_sim.simulation.traffic import Traffic
from fedjax_sim.systems.timed_round import Costs, TimedRound
from fedjax_sim.systems.timeline import Timeline


def down_bits(traffic: Traffic, outputs: RoundOutputs) -> float:
  """Bits that each client of a round was sent.

  Args:
    traffic: what is the same in every round.
    outputs: of the round, on the host.
  """
  varying = outputs.bits_down
  return 8.0 * traffic.down + (
      0 if varying is None else costs.joined(varying))


def up_bits(
    nominal: float, size: int, traffic: Traffic, places: np.ndarray,
    outputs: RoundOutputs,
) -> np.ndarray:
  """float64 [S], what each client of a round has sent, or would have.

  Those whose messages did not arrive have not made any: for them it is what is
  known beforehand.

  Args:
    nominal: that.
    size: S.
    traffic: what is the same for all clients in every round.
    places: int [D, blocks, W], of each slot in the cohort.
    outputs: of the round, on the host.
  """
  bits = np.full(size, float(nominal))
  told = outputs.told.bits
  if told is not None:
    sent = costs.joined_each(told).ravel()
    known = sent > 0
    bits[np.ravel(places)[known]] = 8.0 * traffic.up + sent[known]
  return bits


def recorded(
    known: Timeline, number: int, held: TimedRound, traffic: Traffic,
    places: np.ndarray, outputs: RoundOutputs, has_model: bool = False,
) -> tuple[TimedRound, Costs]:
  """A round by what its messages have cost, and that.

  Args:
    known: the timeline.
    number: of the round, from 0.
    held: the round as it was decided.
    traffic: of a client.
    places: int [D, blocks, W], of each slot in the cohort.
    outputs: of the round, on the host.
    has_model: whether its clients have received the model before.
  """
  if outputs.bits_down is None and outputs.told.bits is None:
    return held, known.costs
  down = down_bits(traffic, outputs)
  up = up_bits(
      known.costs.up_bits, len(held.cohort), traffic, places, outputs)
  return (known.recorded(number, held, 0.0 if has_model else down, up),
          known.costs._replace(down_bits=down))

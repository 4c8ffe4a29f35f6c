"""What a round leaves on the host: notes for its record, and what is kept."""

from typing import Any

import numpy as np

from fedjax_sim.simulation import in_time, recorded_time
from fedjax_sim.simulation.host_state import HostState
from fedjax_sim.simulation.records import Record
from fedjax_sim.simulation.rounds import RoundOutputs
from fedjax_sim.simulation.selecting import Chosen
from fedjax_sim.simulation.traffic import Traffic
from fedjax_sim.systems.timeline import Timeline


def first_host_state(simulation: Any) -> HostState | tuple[()]:
  """What the host keeps before the first round; `()` for nothing."""
  if simulation.selecting is not None:
    return simulation.selecting.init()
  return HostState(np.zeros(())) if simulation.recounts else ()


def after(
    simulation: Any, host: HostState | tuple[()], window: Any, i: int,
    outputs: RoundOutputs,
) -> tuple[HostState | tuple[()], Record]:
  """What the host keeps after a round, and what else its record says.

  Args:
    simulation: the `Simulation`.
    host: what it kept before.
    window: in which the round is planned.
    i: which of its rounds it is.
    outputs: of the round, on the host.
  """
  notes = {'padded_steps': float(window.padded_share[i]),
           'imbalance': float(window.imbalance[i]),
           'devices': simulation.placement.size, 'lanes': simulation.lanes}
  known, number = simulation.timeline, window.start + i
  if window.chosen is not None:
    host, more = _of_chosen(simulation, host, window, i, outputs)
  elif simulation.recounts:
    clock, more = recounted(
        known, simulation.bytes_per_client(), float(host.clock), number,
        window.plan.slots.place[i], outputs)
    host = HostState(np.asarray(clock))
  else:
    more = in_time.fields(known, number)
  return host, notes | more


def recounted(
    known: Timeline, traffic: Traffic, clock: float, number: int,
    places: np.ndarray, outputs: RoundOutputs, chosen: Chosen | None = None,
) -> tuple[float, Record]:
  """The time after a round, by what its messages have cost, and its fields.

  Args:
    known: the timeline.
    traffic: of a client.
    clock: the time before the round.
    number: of the round, from 0.
    places: int [D, blocks, W], of each slot in the cohort.
    outputs: of the round, on the host.
    chosen: the round, where a selector has chosen it when the time had come;
      None for that of the timeline.
  """
  if chosen is None:
    held, begin, has_model = known.round(number), known.begin(number), False
  else:
    held, begin, has_model = chosen.timed, clock, len(chosen.asked) > 0
  one, costs = recorded_time.recorded(
      known, number, held, traffic, places, outputs, has_model)
  end = clock + (one.seconds + (one.start - begin))
  return end, in_time.of_round(one, begin, end, costs)


def _of_chosen(
    simulation, host: HostState, window, i: int, outputs: RoundOutputs
) -> tuple[HostState, Record]:
  """`after` of a round that a selector has chosen."""
  chosen, selecting, clock = window.chosen, simulation.selecting, host.clock
  ids = simulation.train.client_ids
  traffic = simulation.bytes_per_client()
  down = recorded_time.down_bits(traffic, outputs) / 8
  notes = {'cohort': [ids[k] for k in chosen.cohort],
           **selecting.notes(chosen, int(outputs.count), down)}
  if chosen.timed is not None:
    clock, more = recounted(
        simulation.timeline, traffic, float(clock), window.start + i,
        window.plan.slots.place[i], outputs, chosen)
    clock, notes = np.asarray(clock), notes | more
  return selecting.learn(
      chosen, clock, window.start + i, window.plan, i, outputs), notes

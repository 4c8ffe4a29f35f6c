"""What a compiled round tells about its speed."""

import math
from pathlib import Path
from typing import Any

from benchmarks.compiled import floor, hlo, layouts, thunks
from benchmarks.compiled.targets import Target
from benchmarks.compiled.worker import MARK

_LAUNCHES = '*thunk_sequence_after_thunk_passes.txt'


def read(folder: Path, target: Target) -> dict[str, Any]:
  """The facts of a dump; times are predicted, the rest is counted.

  Returns:
    kernels, bytes, flops, floor_seconds: of a step of all lanes.
    collectives: of a round by kind, 'evaluation' those under a condition.
    lane_loops: loops in a step that are none in the model, as XLA makes to
      take lanes one after the other.
    For a GPU graphs, host_loops: CUDA graphs, and loops that the host drives;
    for a TPU padding: the share of padding in what steps hand on.
  """
  program = hlo.parse((folder / 'round.hlo.txt').read_text())
  facts = {'collectives': hlo.collectives(program)}
  launches = sorted(folder.glob(_LAUNCHES))
  if launches:
    facts |= _of_launches(launches[-1].read_text())
  costs = [(floor.of_body(program, step.body, target), step)
           for step in hlo.local_steps(program, MARK)]
  if costs:
    # Phases of fewer lanes compute less; what a TPU peels off costs less.
    facts |= _of_step(*max(
        costs, key=lambda pair: (pair[0].flops, pair[0].seconds)), target)
  return facts


def _of_step(
    cost: floor.Cost, step: hlo.Loop, target: Target
) -> dict[str, Any]:
  paths = [loop.instruction.path for loop in hlo.walk(step.loops)]
  facts = {
      'kernels': cost.kernels, 'bytes': cost.bytes, 'flops': cost.flops,
      'floor_seconds': cost.seconds,
      # A loop of the model comes from a loop.
      'lane_loops': [path.split(MARK)[-1] for path in paths
                     if not path.endswith('/while')]}
  if target.backend == 'tpu':
    facts['padding'] = _padding(step.instruction.type)
  return facts


def _of_launches(text: str) -> dict[str, Any]:
  nodes = [node for node in thunks.walk(thunks.parse(text))]
  return {'graphs': sum(node.graphs for node in nodes),
          'host_loops': sum(not node.in_graph for node in nodes[1:])}


def _padding(type_: str) -> float:
  """The share of bytes in a TPU's tiles that hold nothing."""
  held = layouts.arrays(type_)
  padded = sum(array.padded for array in held)
  return 1 - sum(array.bytes for array in held) / padded if padded else math.nan

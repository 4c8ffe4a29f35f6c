"""A floor under the time of a local step, from its optimized program.

Each kernel takes at least as long as its bytes at the memory's bandwidth, its
products at the matrix units' rate, and a launch. Bytes are those of operands
and results, of slices where only a slice is read or written. What stays in a
GPU's L2 cache or a TPU's fast memory is faster, so this is a floor only where
a step's data are larger than these; what waits for something else is slower.
"""

import math
import re
from typing import NamedTuple

from benchmarks.compiled import layouts
from benchmarks.compiled.hlo import FREE, Instruction, Program
from benchmarks.compiled.targets import Target

_READS_A_PART = {'gather', 'dynamic-slice', 'slice'}
# Ends of what was counted where it began, or what others are counted for.
_COUNTED_ELSEWHERE = {'conditional', 'copy-done', 'async-done', 'slice-done'}


class Cost(NamedTuple):
  """What a piece of a program costs at least.

  Attributes:
    kernels: launches.
    bytes: moved.
    flops: of products.
    seconds: the sum of the kernels' floors.
  """

  kernels: int = 0
  bytes: int = 0
  flops: int = 0
  seconds: float = 0.0

  def __add__(self, other: 'Cost') -> 'Cost':
    return Cost(*(a + b for a, b in zip(self, other, strict=True)))

  def __mul__(self, times: int) -> 'Cost':
    return Cost(*(times * a for a in self))


def of_body(program: Program, computation: str, target: Target) -> Cost:
  """The cost of a loop's body; of loops in it with their known trip counts."""
  types = _types(program, computation)
  total = Cost()
  for one in program.computations[computation]:
    if one.op in FREE or one.op in _COUNTED_ELSEWHERE:
      continue
    if one.op == 'while':
      inner = of_body(program, one.named('body'), target)
      condition = Cost(1, 0, 0, target.launch)
      total += (inner + condition) * (one.trips or 1)
    elif one.op == 'call':
      total += of_body(program, one.named('to_apply'), target)
    else:
      moved, flops = _moved_and_flops(program, one, types)
      total += Cost(1, moved, flops, max(
          moved / target.bandwidth, flops / target.flops, target.launch))
  return total


def _moved_and_flops(
    program: Program, one: Instruction, types: dict[str, str]
) -> tuple[int, int]:
  """Bytes and floating-point operations of one kernel."""
  if one.op == 'fusion':
    return _fusion_bytes(program, one, types), _flops(
        program, one.named('calls'))
  result = layouts.num_bytes(one.type)
  if one.op == 'copy-start':  # Its result is a pair of both sides.
    return result, 0
  return result + sum(layouts.num_bytes(types.get(name, ''))
                      for name in one.operands), _own_flops(one, types)


def _fusion_bytes(
    program: Program, one: Instruction, types: dict[str, str]
) -> int:
  inner = program.computations[one.named('calls')]
  inner_types = {i.name: i.type for i in inner}
  parameters = {int(re.search(r'parameter\((\d+)\)', i.line).group(1)): i.name
                for i in inner if i.op == 'parameter'}
  total = 0
  for number, operand in enumerate(one.operands):
    whole = layouts.num_bytes(types.get(operand, ''))
    users = [i for i in inner if parameters.get(number) in i.operands]
    if users and all(i.op in _READS_A_PART for i in users):
      whole = min(whole, sum(layouts.num_bytes(i.type) for i in users))
    elif users and all(i.op == 'dynamic-update-slice' for i in users):
      whole = 0
    total += whole
  written = layouts.num_bytes(one.type)
  for i in inner:
    if i.op == 'dynamic-update-slice':
      written += (layouts.num_bytes(inner_types[i.operands[1]])
                  - layouts.num_bytes(i.type))
  return total + max(written, 0)


def _flops(program: Program, computation: str) -> int:
  """Of the products in a fused computation."""
  types = _types(program, computation)
  total = 0
  for one in program.computations[computation]:
    if one.op == 'fusion':
      total += _flops(program, one.named('calls'))
    total += _own_flops(one, types)
  return total


def _own_flops(one: Instruction, types: dict[str, str]) -> int:
  shape = lambda text: layouts.arrays(text)[0].shape
  if one.op == 'dot':
    axes = re.search(r'lhs_contracting_dims=\{([\d,]*)\}', one.line).group(1)
    left = shape(types[one.operands[0]])
    each = math.prod(left[int(axis)] for axis in axes.split(',') if axis)
  elif one.op == 'convolution':
    labels = re.search(r'dim_labels=\w+_(\w+)->', one.line).group(1)
    kernel = dict(zip(labels, shape(types[one.operands[1]]), strict=True))
    for axis in _batch_axes(one.line):
      del kernel[str(axis)]
    del kernel['o']
    each = math.prod(kernel.values())
  else:
    return 0
  return 2 * each * math.prod(shape(one.type))


def _batch_axes(line: str) -> list[int]:
  """Spatial axes of a convolution along which nothing is summed.

  A TPU's batches of products are convolutions whose input has so many holes
  that each result meets one number.
  """
  part = lambda name: [int(n) for n in re.findall(
      r'\d+', (re.search(rf'\b{name}=([\dx]+)', line) or [''])[0])]
  sizes, holes = part('size'), part('lhs_dilate')
  return [i for i, (size, hole) in enumerate(zip(sizes, holes, strict=False))
          if size > 1 and size == hole]


def _types(program: Program, computation: str) -> dict[str, str]:
  return {one.name: one.type for one in program.computations[computation]}

"""Reads XLA's list of what a GPU is told to do: launches, graphs, loops."""

import dataclasses
import re
from collections.abc import Iterator

_LINE = re.compile(r'\s*\d+: (k\w+)')
_LAUNCHES = {'kCustomKernel', 'kKernel', 'kCopy', 'kGemm', 'kCublasLtMatmul',
             'kConvolution', 'kCuDnn', 'kCustomCall', 'kSort', 'kCub',
             'kMemset32BitValue', 'kMemzero', 'kDynamicSlice'}


@dataclasses.dataclass
class Node:
  """A loop, or the whole program.

  Attributes:
    launches: kernels, library calls and copies, outside of inner loops.
    graphs: CUDA graphs that begin in it.
    in_graph: whether it is part of one, so that no host drives it.
    conditional: whether it runs under a condition.
    loops: those in it.
    kinds: whatever else stands in it.
  """

  launches: int = 0
  graphs: int = 0
  in_graph: bool = False
  conditional: bool = False
  loops: 'list[Node]' = dataclasses.field(default_factory=list)
  kinds: dict[str, int] = dataclasses.field(default_factory=dict)


def parse(text: str) -> Node:
  """Reads a dump 'thunk_sequence_after_thunk_passes'."""
  root = Node()
  opened = [(-1, 'root', root)]  # (indentation, kind, node) of what is open.
  in_condition = False
  for line in text.splitlines():
    word = line.strip()
    if word in ('condition:', 'body:'):
      in_condition = word == 'condition:'
      continue
    match = _LINE.match(line)
    if not match or in_condition:
      continue
    kind, indent = match.group(1), len(line) - len(line.lstrip())
    while indent <= opened[-1][0]:
      opened.pop()
    node = opened[-1][2]
    kinds = [kind for _, kind, _ in opened]
    if kind == 'kWhile':
      inner = Node(in_graph='kCommandBuffer' in kinds,
                   conditional='kConditional' in kinds)
      node.loops.append(inner)
      opened.append((indent, kind, inner))
    elif kind in ('kCommandBuffer', 'kConditional'):
      node.graphs += kind == 'kCommandBuffer'
      opened.append((indent, kind, node))
    elif kind in _LAUNCHES:
      # Under a condition it isn't a step's.
      node.launches += 'kConditional' not in kinds
    else:
      node.kinds[kind] = node.kinds.get(kind, 0) + 1
  return root


def walk(node: Node) -> Iterator[Node]:
  """A node and all loops in it, outer ones first."""
  yield node
  for loop in node.loops:
    yield from walk(loop)

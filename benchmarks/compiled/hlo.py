"""Reads XLA's optimized programs, as text."""

import dataclasses
import re
from collections.abc import Iterator
from typing import NamedTuple

# What launches nothing.
FREE = {'parameter', 'constant', 'get-tuple-element', 'tuple', 'bitcast',
        'after-all', 'partition-id', 'replica-id', 'iota'}
_COLLECTIVE = re.compile(
    r'(all-|reduce-scatter|collective-)[\w-]*(?<!-done)')


class Instruction(NamedTuple):
  """A line of a computation.

  Attributes:
    name: its own.
    type: of the result, with layouts.
    op: such as 'fusion'.
    line: all of it.
  """

  name: str
  type: str
  op: str
  line: str

  @property
  def operands(self) -> list[str]:
    """Names of what it is applied to."""
    start = self.line.index(f'{self.op}(', self.line.index(' = ')
                            + 3 + len(self.type)) + len(self.op) + 1
    return re.findall(
        r'%([\w.\-]+)', self.line[start:_closing(self.line, start)])

  def named(self, attribute: str) -> str | None:
    """The computation that an attribute such as 'calls' names."""
    found = re.search(rf'\b{attribute}=%?([\w.\-]+)', self.line)
    return found and found.group(1)

  @property
  def branches(self) -> list[str]:
    """The computations of a conditional."""
    several = re.search(r'branch_computations=\{([^}]*)\}', self.line)
    if several:
      return [name.strip().lstrip('%') for name in several.group(1).split(',')]
    return [self.named(f'{which}_computation') for which in ('true', 'false')]

  @property
  def trips(self) -> int | None:
    """How often a loop runs, where that is known."""
    found = re.search(r'known_trip_count[^\d]*(\d+)', self.line)
    return int(found.group(1)) if found else None

  @property
  def path(self) -> str:
    """Where in the traced program it comes from."""
    found = re.search(r'op_name="([^"]*)"', self.line)
    return found.group(1) if found else ''


@dataclasses.dataclass(frozen=True)
class Program:
  """A program's computations.

  Attributes:
    computations: name -> instructions.
    entry: the name of the first one.
  """

  computations: dict[str, list[Instruction]]
  entry: str

  def loops(self, computation: str, inside: bool = False) -> 'list[Loop]':
    """The loops in a computation, each with those in it, in program order.

    Args:
      computation: its name.
      inside: whether it is a branch of a conditional.
    """
    found = []
    for one in self.computations[computation]:
      if one.op == 'while':
        body = one.named('body')
        found.append(Loop(one, body, inside, self.loops(body, inside)))
      elif one.op == 'conditional':
        for branch in one.branches:
          found += self.loops(branch, True)
      elif one.op == 'call':
        found += self.loops(one.named('to_apply'), inside)
    return found

  def reached(self, computation: str) -> Iterator[Instruction]:
    """What a computation runs, that of its loops once, fusions as one."""
    for one in self.computations[computation]:
      yield one
      inner = {'while': lambda one=one: [one.named('body')],
               'conditional': lambda one=one: one.branches,
               'call': lambda one=one: [one.named('to_apply')]}
      for name in inner.get(one.op, list)():
        yield from self.reached(name)


@dataclasses.dataclass(frozen=True)
class Loop:
  """A while loop.

  Attributes:
    instruction: the loop itself.
    body: the name of its body.
    conditional: whether it runs under a condition.
    loops: those in its body.
  """

  instruction: Instruction
  body: str
  conditional: bool
  loops: 'list[Loop]'


def parse(text: str) -> Program:
  """Reads an optimized module."""
  computations, name, entry = {}, None, None
  for line in text.splitlines():
    if name is None:
      head = re.match(r'(ENTRY )?%?([\w.\-]+) .*\{$', line)
      if head and not line.startswith('HloModule'):
        name = head.group(2)
        entry = name if head.group(1) else entry
        computations[name] = []
    elif line.startswith('}'):
      name = None
    else:
      computations[name].append(line.strip())
  return Program({name: [i for i in map(_instruction, lines) if i]
                  for name, lines in computations.items()}, entry)


def walk(loops: list[Loop]) -> Iterator[Loop]:
  """All loops, outer ones before those in them."""
  for loop in loops:
    yield loop
    yield from walk(loop.loops)


def local_steps(program: Program, mark: str) -> list[Loop]:
  """The loops of local steps, one for each phase that a step is compiled in.

  Args:
    program: of rounds.
    mark: names all operations of a step, and none around them.
  """
  def is_step(loop):
    deeper = any(mark not in inner.instruction.path
                 for inner in walk(loop.loops))
    return (mark not in loop.instruction.path and not deeper
            and any(mark in i.path for i in program.computations[loop.body]))
  return [loop for loop in walk(program.loops(program.entry))
          if not loop.conditional and is_step(loop)]


def collectives(program: Program) -> dict[str, int]:
  """How many of each kind, apart from those under a condition.

  Those only rounds with an evaluation have; they count as 'evaluation'.
  """
  counts: dict[str, int] = {}
  def visit(computation, conditional):
    for one in program.computations[computation]:
      if _COLLECTIVE.fullmatch(one.op):
        kind = 'evaluation' if conditional else one.op.removesuffix('-start')
        counts[kind] = counts.get(kind, 0) + 1
      elif one.op == 'while':
        visit(one.named('body'), conditional)
      elif one.op == 'conditional':
        for branch in one.branches:
          visit(branch, True)
      elif one.op in ('call', 'async-start'):
        visit(one.named('to_apply') or one.named('calls'), conditional)
  visit(program.entry, False)
  return counts


def _instruction(line: str) -> Instruction | None:
  match = re.match(r'(?:ROOT )?%?([\w.\-]+) = (.*)$', line)
  if not match:
    return None
  name, rest = match.groups()
  end = _closing(rest, 1) + 1 if rest.startswith('(') else rest.index(' ')
  op = re.match(r'\s*([\w\-]+)\(', rest[end:])
  return op and Instruction(name, rest[:end], op.group(1), line)


def _closing(text: str, start: int) -> int:
  """Where the parenthesis closes that was opened before `start`."""
  depth = 1
  for i in range(start, len(text)):
    depth += (text[i] == '(') - (text[i] == ')')
    if not depth:
      return i
  raise ValueError(f'no closing parenthesis in {text[:80]}')

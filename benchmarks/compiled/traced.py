"""What the traced program tells, before XLA has seen it."""

from collections.abc import Iterator
from typing import Any

_LOOPS = ('while', 'scan')


def steps(jaxpr: Any, mark: str) -> Iterator[Any]:
  """The bodies of the loops of local steps, one for each phase.

  Args:
    jaxpr: of the rounds.
    mark: names all operations of a step, and none around them.
  """
  for equation in jaxpr.eqns:
    for inner in _inner(equation):
      if equation.primitive.name in _LOOPS and any(
          mark in _path(one) for one in _outside_of_loops(inner)):
        yield inner
      else:
        yield from steps(inner, mark)


def everything(jaxpr: Any) -> Iterator[Any]:
  """Its equations, and those of all that it holds."""
  for equation in jaxpr.eqns:
    yield equation
    for inner in _inner(equation):
      yield from everything(inner)


def _path(equation: Any) -> str:
  return str(equation.source_info.name_stack)


def _outside_of_loops(jaxpr: Any) -> Iterator[Any]:
  """Its equations and those of functions that it calls."""
  for equation in jaxpr.eqns:
    yield equation
    if equation.primitive.name not in _LOOPS:
      for inner in _inner(equation):
        yield from _outside_of_loops(inner)


def _inner(equation: Any) -> Iterator[Any]:
  """The jaxprs among an equation's parameters."""
  for value in equation.params.values():
    for one in value if isinstance(value, (tuple, list)) else (value,):
      one = getattr(one, 'jaxpr', one)
      if hasattr(one, 'eqns'):
        yield one

"""What specs differ in: which of their numbers one program can be given.

The traceable numbers of a spec are named by their path, such as 'lam',
'personal_optimizer.learning_rate', or in a chain '0.max_norm'. A traceable
argument that is left out counts with its default, if that is a number. Specs
that differ in these alone have one skeleton, and share a program.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedjax_sim.core import builders
from fedjax_sim.core.builders import AnyBound, Bound, BoundChain
from fedjax_sim.core.signatures import signature


class _Hole:
  """Stands for any number."""

  def __repr__(self) -> str:
    return '_'


def numbers(bound: AnyBound) -> dict[str, float]:
  """Path -> number, of all traceable ones."""
  found = {}
  _map_numbers(bound, lambda path, x: found.setdefault(path, x))
  return found


def replaced(bound: AnyBound, values: Mapping[str, Any]) -> AnyBound:
  """With other values, such as traced arrays, in place of some numbers."""
  return _map_numbers(bound, lambda path, x: values.get(path, x))


def skeleton(bound: AnyBound) -> str:
  """The canonical text, without the traceable numbers."""
  return builders.text_of(_map_numbers(bound, lambda path, x: _Hole()))


def differing(bounds: Sequence[AnyBound]) -> list[str]:
  """Paths of the numbers that are not the same in all.

  Raises:
    ValueError: the specs differ in something else too.
  """
  shapes = sorted(set(map(skeleton, bounds)))
  if len(shapes) > 1:
    raise ValueError(f'{shapes[0]} and {shapes[1]} need a program each.')
  every = [numbers(bound) for bound in bounds]
  return [path for path in every[0]
          if any(one[path] != every[0][path] for one in every)]


def _map_numbers(
    bound: AnyBound, function: Callable[[str, float], Any], path: str = ''
) -> AnyBound:
  """Applies a function of path and number to every traceable number."""
  def changed(name: str, value: Any) -> Any:
    if isinstance(value, AnyBound):
      return _map_numbers(value, function, f'{path}{name}.')
    if _is_number(value) and name in bound.traceable:
      return function(f'{path}{name}', value)
    return value

  if isinstance(bound, BoundChain):
    parts = tuple(_map_numbers(part, function, f'{path}{i}.')
                  for i, part in enumerate(bound.parts))
    return BoundChain(bound.field, parts, bound.combine)
  if not isinstance(bound, Bound):
    return bound
  arguments = {}
  for name in dict.fromkeys((*signature(bound.builder).keywords,
                             *bound.arguments)):
    left_out = name not in bound.arguments
    value = _default(bound, name) if left_out else bound.arguments[name]
    new = changed(name, value)
    if not left_out or new is not value:
      arguments[name] = new
  fields = vars(bound) | {
      'arguments': arguments,
      'rest': tuple(changed(f'{i}', x) for i, x in enumerate(bound.rest))}
  return Bound(**fields)


def _default(bound: Bound, name: str) -> Any:
  """The default of an argument that is left out; None if context fills it."""
  if name in bound.context:
    return None
  return signature(bound.builder).parameters[name].default


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)

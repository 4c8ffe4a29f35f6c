"""Where specs find builders: by name in a namespace, or by dotted path."""

import dataclasses
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fedjax_sim.core import argument_kinds, checks

Builder = Callable[..., Any]

# Names that an error lists; optax has a hundred optimizers and parts of them.
_MOST_LISTED = 40


@dataclasses.dataclass(frozen=True)
class Namespace:
  """What the specs of a field may name.

  Attributes:
    field: its name, for errors.
    builders: those a spec may begin with, by name.
    context: names of the parameters that are filled in.
    fields: those of them that another field of the config sets -> its name. A
      spec may not set them too.
    told: further ones that another field sets -> its name, which a spec may set
      instead; for errors.
    parts: further builders, which only arguments may name.
    parts_context: names of the parameters that are filled in for these.
    combine: makes one thing of the parts of a chain; None if there is no chain.
    functions: a bare name is the function itself, not a call.
    traceable: `(builder) -> names` of arguments that may be traced, beside
      those that the builder itself declares.
    same: names of the parameters that a field of the same name sets, unless a
      spec does.
    example: a spec, for errors.
  """

  field: str
  builders: Mapping[str, Builder]
  context: frozenset[str] = frozenset()
  fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
  told: Mapping[str, str] = dataclasses.field(
      default_factory=dict, kw_only=True)
  parts: Mapping[str, Builder] = dataclasses.field(default_factory=dict)
  parts_context: frozenset[str] = frozenset()
  combine: Callable[..., Any] | None = None
  functions: bool = False
  traceable: Callable[[Builder], Iterable[str]] = lambda builder: ()
  same: frozenset[str] = frozenset(
      {'rounds', 'num_clients', 'seed', 'data_dir', 'clients_per_round'})
  example: str = 'ditto(lam=0.1)'


def look_up(
    name: str, space: Namespace, argument: inspect.Parameter | None = None
) -> tuple[Builder, bool]:
  """The builder of a name, and whether it is one of `Namespace.parts`.

  Args:
    name: one of the namespace, or a dotted path.
    space: the namespace.
    argument: what the spec with this name is given to; None if it is the
      field's own, which can't name `Namespace.parts`.

  Raises:
    ValueError: there is none, or a module can't be imported.
  """
  if name in space.builders:
    return space.builders[name], False
  if argument is not None and name in space.parts:
    return space.parts[name], True
  if '.' in name:
    return _imported(name, space.field), False
  what, valid = space.field, sorted(space.builders)
  if argument is not None:
    what, valid = argument.name, _fitting(space, argument.annotation)
  if not valid:
    kind = argument_kinds.wanted(argument.annotation)
    raise ValueError(f'{what} must be {kind}, got the name {name}.')
  raise ValueError(
      f'{what} must be one of {_listed(name, valid)}, or the dotted path of a '
      f'function, got {name!r}.{checks.near_hint(name, valid)}')


def _fitting(space: Namespace, annotation: Any) -> list[str]:
  """Names of what an argument may be; parts if its annotation doesn't say."""
  known = {**space.parts, **space.builders}
  fitting = [name for name, builder in known.items()
             if argument_kinds.makes(builder, annotation)]
  if fitting or argument_kinds.wanted(annotation):
    return sorted(fitting)
  return sorted(space.parts or known)


def _imported(path: str, field: str) -> Builder:
  """What a dotted path names, in the longest part of it that is a module."""
  names = path.split('.')
  for count in range(len(names) - 1, 0, -1):
    module = '.'.join(names[:count])
    try:
      found = importlib.import_module(module)
    except ModuleNotFoundError as error:
      if f'{module}.'.startswith(f'{error.name}.'):
        continue  # Else the module is there, and imports one that isn't.
      raise ValueError(f'{field}={path}: {module} needs the module '
                       f'{error.name}, which is missing.') from error
    for name in names[count:]:
      if not hasattr(found, name):
        raise ValueError(f'{field}={path}: {module} has no {name!r}.'
                         f'{checks.near_hint(name, dir(found))}')
      found = getattr(found, name)
    if not callable(found):
      raise ValueError(f'{field}={path} must be a function, got a '
                       f'{type(found).__name__}.')
    if not _has_signature(found):
      raise ValueError(f'{field}={path} must be a function that tells its '
                       'arguments, this one has no signature.')
    return found
  raise ValueError(
      f'{field}={path}: there is no module {names[0]!r}. It must be '
      'installed, on PYTHONPATH, or a file beside the config.')


def _has_signature(function: Builder) -> bool:
  try:
    inspect.signature(function)
  except ValueError:  # Of functions written in C.
    return False
  return True


def _listed(name: str, valid: list[str]) -> str:
  """All names, or of very many those that are near."""
  if len(valid) <= _MOST_LISTED:
    return ', '.join(valid)
  near = difflib.get_close_matches(name, valid, n=8, cutoff=0.3)
  return f'{len(valid)} names, such as {", ".join(near or valid[:8])}'

"""Errors of a config name its fields: 'config.rounds must be …'."""

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping

# What functions call some of the fields that they are given.
_ARGUMENTS = {'test_fraction': 'client_test_fraction', 'epochs': 'local_epochs',
              'steps': 'local_steps'}


@contextlib.contextmanager
def in_errors(
    fields: Collection[str], specs: Mapping[str, str] | None = None
) -> Iterator[None]:
  """Puts 'config.' before an error that begins with the name of a field.

  So checks don't need to know whether a config or a caller gave the value.

  Args:
    fields: the names of all fields.
    specs: those whose values are told too, by field: of a value that takes
      several parts to refuse, what is said need not have it. An argument that
      one of them alone has stands for its field.
  """
  try:
    yield
  except ValueError as error:
    found = re.match(r'(\w+)(?=[ =:])', str(error))
    name = found and _ARGUMENTS.get(found[1], found[1])
    given = found and _with_argument(found[1], specs or {})
    if given and name not in fields:
      raise ValueError(f'config.{given}={specs[given]}: {error}') from error
    if not found or name not in fields:
      raise
    rest, value = str(error)[found.end():], (specs or {}).get(name)
    if value and rest[0] == ':':
      rest = f'={value}{rest}'
    elif value and rest[0] == ' ':
      rest = f'={value}: {error}'
    raise ValueError(f'config.{name}{rest}') from error


def _with_argument(name: str, specs: Mapping[str, str]) -> str | None:
  """The field whose spec alone gives an argument of this name."""
  found = [field for field, text in specs.items()
           if re.search(rf'\b{name}\s*=', text)]
  return found[0] if len(found) == 1 else None

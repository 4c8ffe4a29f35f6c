"""Errors of a config name its fields: 'config.rounds must be …'."""

import contextlib
import re
from collections.abc import Collection, Iterator

# What functions call some of the fields that they are given.
_ARGUMENTS = {'test_fraction': 'client_test_fraction', 'epochs': 'local_epochs',
              'steps': 'local_steps'}


@contextlib.contextmanager
def in_errors(fields: Collection[str]) -> Iterator[None]:
  """Puts 'config.' before an error that begins with the name of a field.

  So checks don't need to know whether a config or a caller gave the value.

  Args:
    fields: the names of all fields.
  """
  try:
    yield
  except ValueError as error:
    found = re.match(r'(\w+)(?=[ =:])', str(error))
    name = found and _ARGUMENTS.get(found[1], found[1])
    if not found or name not in fields:
      raise
    raise ValueError(
        f'config.{name}{str(error)[found.end():]}') from error

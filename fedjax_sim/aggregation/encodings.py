"""In which order the parts of a chain may encode the values of an update.

A part says what it does to values by the `encodes` of `transform`. Parts that
say nothing, such as `clip`, may stand anywhere. A wrapper of a chain hands its
`encodings` on.
"""

import enum
import itertools
from typing import NamedTuple


class Kind(enum.IntEnum):
  """What becomes of values; in a chain, a kind is never before a lower one."""

  # Each becomes a mixture of many, as in a rotation.
  MIXES = 1
  # Some travel, and the others are zero (`Message.sent`).
  SELECTS = 2
  # Each is said in fewer bits. Only once: what is read is a float again, but
  # to code it a second time loses more and saves nothing.
  CODES = 3


_DOES = {Kind.MIXES: 'mixes all values', Kind.SELECTS: 'selects some values',
         Kind.CODES: 'says values in fewer bits'}


class Encoding(NamedTuple):
  """What a part does to values.

  Attributes:
    name: the part's, for errors.
    kind: what it does.
    leaves: the patterns of the `on`s around it, the outer one first.
  """

  name: str
  kind: Kind
  leaves: tuple[str, ...] = ()

  def on(self, pattern: str) -> 'Encoding':
    """The same, of the leaves that a pattern fits."""
    return self._replace(leaves=(pattern, *self.leaves))


def check_order(encodings: tuple[Encoding, ...]) -> None:
  """ValueError if one undoes what another before it was for.

  Parts that an `on` applies to other patterns are not compared.
  """
  for before, after in itertools.combinations(encodings, 2):
    common = min(len(before.leaves), len(after.leaves))
    if before.leaves[:common] != after.leaves[:common]:
      continue
    if after.kind < before.kind:
      raise ValueError(
          f'a chain must have {after.name!r} before {before.name!r}: '
          f'{after.name!r} {_DOES[after.kind]}, which would undo that '
          f'{before.name!r} {_DOES[before.kind]}.')
    if before.kind == after.kind == Kind.CODES:
      raise ValueError(
          f'a chain must say values in fewer bits only once, got '
          f'{before.name!r} and, after it, {after.name!r}.')

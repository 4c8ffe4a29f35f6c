"""In which order the parts of a chain may encode the values of an update.

A part says what it does to values by the `encodes` of `transform`; those that
say nothing may stand anywhere. A wrapper of a chain hands its `encodings` on,
or has a kind of its own.
"""

import enum
import itertools
from collections.abc import Callable
from typing import NamedTuple

from fedjax_sim.core.types import PyTree


class Kind(enum.IntEnum):
  """What becomes of values.

  `SCALES` may stand anywhere but after `REPAYS`. Of the others a kind is never
  before a lower one in a chain, and what is `REPAYS` has them within it.
  """

  # All become smaller by one factor, as in a clip.
  SCALES = 0
  # Each becomes a mixture of many, as in a rotation.
  MIXES = 1
  # Some travel, and the others are zero (`Message.sent`).
  SELECTS = 2
  # Each is encoded in fewer bits. Only once: what is read is a float again, but
  # to code it a second time loses more and saves nothing.
  CODES = 3
  # What is lost now is added to what the client sends next.
  REPAYS = 4


_DOES = {Kind.SCALES: 'scales all values', Kind.MIXES: 'mixes all values',
         Kind.SELECTS: 'selects some values',
         Kind.CODES: 'encodes values in fewer bits',
         Kind.REPAYS: 'sends later what is lost now'}
# What a later part may undo.
_DONE = {Kind.SELECTS: 'selection', Kind.CODES: 'encoding'}


# What a part lacks to be a contraction of an update; '' if it is one, or if
# that is not known. See `contraction`.
Lacks = str | Callable[[PyTree], str]


class Encoding(NamedTuple):
  """What a part does to values.

  Attributes:
    name: the part's, for errors.
    kind: what it does.
    leaves: the patterns of the `on`s around it, the outer one first.
    lacks: what the part would have to be given instead, to be a contraction; a
      function of an update, or of its shapes, where that depends on how many
      values there are.
    within: of what is `REPAYS`, the encodings inside of it.
  """

  name: str
  kind: Kind
  leaves: tuple[str, ...] = ()
  lacks: Lacks = ''
  within: tuple['Encoding', ...] = ()

  def on(
      self, pattern: str, chosen: Callable[[PyTree], PyTree]
  ) -> 'Encoding':
    """The same, of the leaves that a pattern fits, which `chosen` leaves."""
    lacks = self.lacks
    return self._replace(
        leaves=(pattern, *self.leaves), lacks=lacks if isinstance(
            lacks, str) else lambda update: lacks(chosen(update)))


def check_order(encodings: tuple[Encoding, ...]) -> None:
  """ValueError if one undoes what another before it was for.

  Parts that an `on` applies to other patterns are not compared.
  """
  pairs = [pair for pair in itertools.combinations(encodings, 2)
           if _of_same_leaves(*pair)]
  for before, after in pairs:
    if before.kind == after.kind == Kind.CODES:
      raise ValueError(
          f'a chain must encode values in fewer bits only once, got '
          f'{before.name!r} and, after it, {after.name!r}.')
  for before, after in pairs:
    if Kind.REPAYS in (before.kind, after.kind):
      _check_repaid(before, after)
    elif Kind.SCALES in (before.kind, after.kind):
      continue
    elif after.kind < before.kind:
      raise ValueError(
          f'a chain must have {after.name!r} before {before.name!r}: '
          f'{after.name!r} {_DOES[after.kind]}, which would undo the '
          f'{_DONE[before.kind]} by {before.name!r}.')


def selecting(encodings: tuple[Encoding, ...]) -> str | None:
  """The name of the first one that selects values; None if there is none."""
  for encoding in encodings:
    if encoding.kind == Kind.SELECTS:
      return encoding.name
    inner = selecting(encoding.within)
    if inner:
      return inner
  return None


def losing(encodings: tuple[Encoding, ...]) -> Encoding | None:
  """The first one of which something is lost for good; None if there is none.

  A mixture loses nothing, and what `REPAYS` has within it is sent later.
  """
  for encoding in encodings:
    if encoding.kind in (Kind.SCALES, Kind.SELECTS, Kind.CODES):
      return encoding
  return None


def does(encoding: Encoding) -> str:
  """What it does to values, for errors."""
  return _DOES[encoding.kind]


def _of_same_leaves(before: Encoding, after: Encoding) -> bool:
  common = min(len(before.leaves), len(after.leaves))
  return before.leaves[:common] == after.leaves[:common]


def _check_repaid(before: Encoding, after: Encoding) -> None:
  """ValueError if `after` loses what `before` can't know of, or the reverse."""
  if before.kind == after.kind:
    raise ValueError(f'a chain must have one of {before.name!r} and '
                     f'{after.name!r}, since each {_DOES[Kind.REPAYS]}.')
  if before.kind == Kind.REPAYS:
    place = 'before' if after.kind == Kind.SCALES else 'within'
    raise ValueError(
        f'a chain must have {after.name!r} {place} {before.name!r}, not after '
        f'it: {after.name!r} {_DOES[after.kind]}, and what {before.name!r} '
        'keeps of a client would not be what the server lacks.')
  if before.kind != Kind.SCALES:
    raise ValueError(
        f'a chain must have {before.name!r} within {after.name!r}, not before '
        f'it: {before.name!r} {_DOES[before.kind]}, which {after.name!r} could '
        'not make good.')

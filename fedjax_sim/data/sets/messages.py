"""Messages by author: words, windows of ten an example.

The large-scale experiment of McMahan et al., arXiv:1602.05629, section 3, on
messages that the user has: of each author at most 5,000 words, a vocabulary of
10,000, ten words unrolled, and test messages by authors that no client is.

The file is JSON Lines, an author a line: {"client": name, "messages": [...]}.
It is the only `*.jsonl` (plain, .xz or .gz) in `data_dir`, else in
$FEDJAX_SIM_DATA_DIR, in the folder itself or in `messages` in it. Words are
what white space separates, as they are: no case is changed.

10,000 tokens in all, so that the word LSTM has the paper's 4,950,544
parameters: PAD, BOS, EOS and OOV, then the 9,996 words that are most frequent
with the training authors (of equally frequent ones the first in the alphabet).
TensorFlow Federated's Stack Overflow task has the same four special tokens,
beside 10,000 words. PAD and BOS are never labels.

A message of n words has n + 1 tokens to predict, its words and EOS; they are
cut into windows of LENGTH, each of which starts from a state of zeros and the
token before. So every word is predicted once. (That task cuts messages off
instead; where one message in ten is longer than 27 words, as in chats on
Ubuntu, two fifths of all words would be lost after ten.)
"""

import collections
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fedjax_sim.data.sets import raw_files, text

NAME = 'messages'
LENGTH = 10  # Words in a window; the paper's unroll length.
PAD, BOS, EOS, OOV = range(4)
NUM_TOKENS = 10_000
MAX_WORDS = 5_000  # Of an author.
TEST_EVERY = 10  # Of so many authors one is a test author.

Author = tuple[str, list[list[str]]]  # Name, and the words of each message.


def load(data_dir: str | os.PathLike | None) -> text.TextClients:
  """Reads the user's file.

  Raises:
    ValueError: there are several, or one is of another layout, or has too few
      authors.
    WayFailed: there is none.
  """
  folders = {'data_dir': data_dir,
             '$FEDJAX_SIM_DATA_DIR': os.environ.get('FEDJAX_SIM_DATA_DIR')}
  failures = []
  for label, folder in folders.items():
    try:
      return by_author(read(_find(folder)))
    except raw_files.WayFailed as error:
      failures.append(f'  {len(failures) + 1}. {label}: {error}')
  raise raw_files.WayFailed('\n'.join(failures))


def _find(folder: str | os.PathLike | None) -> Path:
  for place in text.places(folder, NAME):
    if path := text.only_file(place, '*.jsonl'):
      return path
  raise raw_files.WayFailed(
      f'{folder} has no *.jsonl (or .xz, .gz), nor has {NAME}/ in it')


def read(path: Path) -> list[Author]:
  """The authors of a file who wrote anything, up to MAX_WORDS words each.

  An author's messages are taken in order, whole ones only; what goes beyond
  MAX_WORDS is left out.

  Raises:
    ValueError: a line is of another layout.
  """
  authors = []
  for record in text.read_records(path, {'client': str, 'messages': list}):
    messages = [words for message in record['messages']
                if (words := message.split())]
    totals = itertools.accumulate(map(len, messages))
    kept = [words for words, total in zip(messages, totals, strict=True)
            if total <= MAX_WORDS]
    if kept:
      authors.append((record['client'], kept))
  return authors


def by_author(authors: list[Author]) -> text.TextClients:
  """Makes a federation of authors; of every ten in order the last is for test.

  Raises:
    ValueError: there are fewer than TEST_EVERY authors.
  """
  if len(authors) < TEST_EVERY:
    raise ValueError(
        f'there must be at least {TEST_EVERY} authors, got {len(authors)}.')
  is_test = lambda i: i % TEST_EVERY == TEST_EVERY - 1
  train = [author for i, author in enumerate(authors) if not is_test(i)]
  test = [author for i, author in enumerate(authors) if is_test(i)]
  train.sort(key=lambda author: author[0])
  words = vocabulary(train)
  of_clients = [encode(messages, words) for _, messages in train]
  return text.TextClients(
      _joined(of_clients), _joined(encode(own, words) for _, own in test),
      [name for name, _ in train],
      text.consecutive([len(own['x']) for own in of_clients]))


def vocabulary(authors: list[Author]) -> dict[str, int]:
  """The tokens of the most frequent words, from OOV + 1 to NUM_TOKENS - 1."""
  counts = collections.Counter(
      word for _, messages in authors for words in messages for word in words)
  ranked = sorted(counts, key=lambda word: (-counts[word], word))
  return dict(zip(ranked, range(OOV + 1, NUM_TOKENS), strict=False))


def encode(
    messages: Iterable[list[str]], words: dict[str, int], length: int = LENGTH
) -> dict[str, np.ndarray]:
  """Messages as windows of tokens and of the tokens that follow.

  Args:
    messages: the words of each, at least one.
    words: word -> token, below 2**15; others are OOV.
    length: T, of a window.

  Returns:
    {'x': int16 [E, T], PAD behind a message's end, 'y': int16 [E, T], -1
    there}.
  """
  x, y = [], []
  for message in messages:
    tokens = [words.get(word, OOV) for word in message]
    padding = -(len(tokens) + 1) % length
    x += [BOS, *tokens, *[PAD] * padding]
    y += [*tokens, EOS, *[-1] * padding]
  return {'x': np.array(x, np.int16).reshape(-1, length),
          'y': np.array(y, np.int16).reshape(-1, length)}


def _joined(parts) -> dict[str, np.ndarray]:
  parts = list(parts)
  return {name: np.concatenate([part[name] for part in parts])
          for name in ('x', 'y')}

"""Texts as tokens: what all of TFDS's text features have in common here.

Tokens are words, which is what white space separates, or single characters;
either as they are, with no case changed. PAD, BOS, EOS and OOV are tokens 0 to
3, as in `messages.py`; then come the words of the vocabulary, the most frequent
first and of equally frequent ones the first in code point order. A vocabulary
is counted on training texts alone, or given.
"""

import collections
from collections.abc import Iterable, Sequence

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.data.sets import messages

KINDS = {'words': str.split, 'characters': list}
_FIRST = messages.OOV + 1
_MOST = 2 ** 15 - 1  # Tokens are int16.


def split(texts: Iterable[str], kind: str) -> list[list[str]]:
  """The words or characters of each text."""
  checks.one_of('tokens', kind, KINDS)
  return [KINDS[kind](text) for text in texts]


def vocabulary(
    train: Iterable[list[str]], size_or_words: int | Sequence[str]
) -> list[str]:
  """The words of a vocabulary; the token of word i is i + 4.

  Args:
    train: the training texts' words.
    size_or_words: how many tokens there may be at most, the four special ones
      included; or the words themselves.

  Raises:
    ValueError: fewer than five tokens, more than 32,767, or a word comes twice.
  """
  if not isinstance(size_or_words, list | tuple):
    size = checks.at_least('vocabulary', size_or_words, _FIRST + 1)
    counts = collections.Counter(word for words in train for word in words)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    size_or_words = ranked[:size - _FIRST]
  words = list(size_or_words)
  if len(words) + _FIRST > _MOST:
    raise ValueError(f'vocabulary must have at most {_MOST - _FIRST:,} words, '
                     f'got {len(words):,}.')
  if not all(isinstance(word, str) for word in words):
    raise ValueError('vocabulary must be a number, or a list of words.')
  if len(set(words)) != len(words):
    twice = collections.Counter(words).most_common(1)[0][0]
    raise ValueError(f'vocabulary must have each word once, got {twice!r} '
                     'more often.')
  return words


def num_tokens(words: Sequence[str]) -> int:
  """How many tokens a vocabulary of these words has."""
  return len(words) + _FIRST


def whole(
    texts: Sequence[list[str]], words: Sequence[str], length: int
) -> np.ndarray:
  """int16 [E, T]: each text's first T tokens, then PAD; for classification."""
  numbers = _numbers(words)
  tokens = np.full((len(texts), length), messages.PAD, np.int16)
  for row, text in zip(tokens, texts, strict=True):
    found = [numbers.get(word, messages.OOV) for word in text[:length]]
    row[:len(found)] = found
  return tokens


def following(
    texts: Sequence[list[str]], words: Sequence[str], length: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
  """Windows of T tokens and of those that follow; for language models.

  As `messages.encode`: a text of n words has n + 1 tokens to predict, the last
  one EOS, and is cut into windows, so that each is predicted once.

  Returns:
    ({'x': int16 [E, T], 'y': int16 [E, T], -1 where nothing follows}, int64
    [E]: which text a window is of). Empty texts have none.
  """
  lengths = np.array([len(text) for text in texts], np.int64)
  counts = np.where(lengths > 0, -(-(lengths + 1) // length), 0)
  windows = messages.encode(
      (text for text in texts if text), _numbers(words), length)
  return windows, np.repeat(np.arange(len(texts)), counts)


def _numbers(words: Sequence[str]) -> dict[str, int]:
  return {word: i for i, word in enumerate(words, _FIRST)}

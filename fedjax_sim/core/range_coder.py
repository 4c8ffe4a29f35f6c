"""An arithmetic coder, through the library `constriction`.

It shows that `coders.entropy` is attained. The library is optional:
`pip install 'fedjax_sim[coding]'`. Bamler, "Understanding Entropy Coding With
Asymmetric Numeral Systems (ANS)" (2022).
"""

import numpy as np

from fedjax_sim.core import bit_streams

_WORD = 32


def write(symbols: np.ndarray, num_symbols: int) -> np.ndarray:
  """How often each symbol comes, and the symbols in a range coder.

  Args:
    symbols: integers below `num_symbols`, of any shape.
    num_symbols: how many there may be.

  Returns:
    bool [bits].
  """
  stream = _constriction().stream
  symbols = np.ravel(symbols).astype(np.int32)
  counts = np.bincount(symbols, minlength=num_symbols)
  header = bit_streams.gamma(counts + 1)
  if np.count_nonzero(counts) < 2:
    return header
  encoder = stream.queue.RangeEncoder()
  encoder.encode(symbols, _model(stream, counts))
  words = encoder.get_compressed()
  return np.concatenate([header, bit_streams.fixed(words, _WORD)])


def read(
    reader: bit_streams.Reader, size: int, num_symbols: int) -> np.ndarray:
  """The last thing of a stream.

  Returns:
    int32 [size].
  """
  stream = _constriction().stream
  counts = reader.gamma(num_symbols) - 1
  if np.count_nonzero(counts) < 2:
    return np.full(size, np.argmax(counts), np.int32)
  words = reader.fixed(reader.left // _WORD, _WORD).astype(np.uint32)
  return stream.queue.RangeDecoder(words).decode(_model(stream, counts), size)


def _model(stream, counts: np.ndarray):
  return stream.model.Categorical(
      counts.astype(np.float64) / counts.sum(), perfect=False)


def _constriction():
  try:
    import constriction
  except ImportError as error:
    raise ImportError("an arithmetic coder needs constriction: pip install "
                      "'fedjax_sim[coding]'.") from error
  return constriction

"""The bits that are counted are those that a coder writes.

Each test writes the symbols of a message with NumPy, as a client would, reads
them as a server would, and gets what the transform says that it reads.
"""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.aggregation import hadamard
from fedjax_sim.aggregation.eden import normal_levels
from fedjax_sim.core import bit_streams, costs
from tests.aggregation import sending

N = 512
X = np.float32(np.random.default_rng(0).normal(0.2, 1.0, N))
# The seed that a client sends is 32 bits that the test leaves out.
SEED = 32


def sent_by(part, x=X):
  """(what the server reads, float64; the bits that are counted)"""
  sent = sending.send(part, {'a': jnp.asarray(x)})
  return (np.asarray(sent.update['a'], np.float64),
          float(costs.total(sent.cost)))


def assert_close(got, want):
  np.testing.assert_allclose(got, want, atol=2e-6 * np.abs(want).max())


@pytest.mark.parametrize('bits', [1, 3])
def test_quantize(bits):
  want, counted = sent_by(aggregation.quantize(bits))
  step = (X.max() - X.min()) / (2 ** bits - 1)
  level = np.rint((want - X.min()) / step).astype(int)
  stream = np.concatenate([
      bit_streams.floats(np.array([X.min(), X.max()])),
      bit_streams.fixed(level, bits)])
  assert len(stream) == counted
  reader = bit_streams.Reader(stream)
  low, high = reader.floats(2)
  got = low + (high - low) / (2 ** bits - 1) * reader.fixed(N, bits)
  assert_close(got, want)


@pytest.mark.parametrize('levels', [1, 4, 200])
def test_qsgd_in_the_shorter_of_two_codes(levels):
  want, counted = sent_by(aggregation.qsgd(levels))
  norm = np.linalg.norm(X)
  level = np.rint(np.abs(want) * levels / norm).astype(int)
  used = level > 0
  signs = bit_streams.fixed(want[used] < 0, 1)
  sparse = np.concatenate([
      bit_streams.positions(used), signs, bit_streams.omega(level[used])])
  dense = np.concatenate([bit_streams.omega(level + 1), signs])
  assert (len(sparse) < len(dense)) == (levels < 200)
  stream = np.concatenate([
      bit_streams.floats(np.array([norm])), [len(sparse) <= len(dense)],
      min(sparse, dense, key=len)])
  assert len(stream) == counted
  reader = bit_streams.Reader(stream)
  scale, is_sparse = reader.floats(1)[0], reader.number(1)
  got = np.zeros(N)
  if is_sparse:
    places = reader.positions(N)
    signs = 1 - 2 * reader.fixed(places.sum(), 1)
    got[places] = signs * reader.omega(places.sum())
  else:
    got = reader.omega(N) - 1
    got[got > 0] *= 1 - 2 * reader.fixed(np.sum(got > 0), 1)
  assert_close(got * scale / levels, want)


@pytest.mark.parametrize('levels', [1, 5])
def test_qsgd_in_digits(levels):
  want, counted = sent_by(aggregation.qsgd(levels, coder='fixed'))
  norm = np.linalg.norm(X)
  digits = np.rint(want * levels / norm).astype(int) + levels
  stream = np.concatenate([bit_streams.floats(np.array([norm])),
                           bit_streams.digits(digits, 2 * levels + 1)])
  assert len(stream) == counted
  reader = bit_streams.Reader(stream)
  got = reader.floats(1) / levels * (
      reader.digits(N, 2 * levels + 1) - levels)
  assert_close(got, want)


def test_terngrad():
  want, counted = sent_by(aggregation.terngrad())
  scale = np.abs(want).max()
  stream = np.concatenate([
      bit_streams.floats(np.array([scale])),
      bit_streams.digits(np.sign(want).astype(int) + 1, 3)])
  assert len(stream) == counted < 1.7 * N + 32
  reader = bit_streams.Reader(stream)
  assert_close(reader.floats(1) * (reader.digits(N, 3) - 1), want)


def test_sign_sgd():
  want, counted = sent_by(aggregation.sign_sgd(scaled=True))
  stream = np.concatenate([
      bit_streams.floats(np.array([np.abs(X).mean()])),
      bit_streams.fixed(want < 0, 1)])
  assert len(stream) == counted
  reader = bit_streams.Reader(stream)
  assert_close(reader.floats(1) * (1 - 2 * reader.fixed(N, 1)), want)


@pytest.mark.parametrize('bits', [1, 3])
def test_drive_and_eden_with_padding_to_a_power_of_two(bits):
  part = aggregation.drive() if bits == 1 else aggregation.eden(bits)
  x, levels = X[:300], normal_levels(bits)
  want, counted = sent_by(part, x)
  key = jax.random.fold_in(sending.KEYS.client, 0)
  z = np.asarray(hadamard.rotate(jnp.asarray(x), key), np.float64)
  unit = np.linalg.norm(x) / np.sqrt(N)
  number = np.argmin(np.abs(z[:, None] / unit - levels), 1)
  scale = np.sum(np.float64(x) ** 2) / (z @ levels[number])
  stream = np.concatenate([bit_streams.floats(np.array([scale])),
                           bit_streams.fixed(number, bits)])
  assert len(stream) + SEED == counted
  reader = bit_streams.Reader(stream)
  y = reader.floats(1) * levels[reader.fixed(N, bits)]
  assert_close(hadamard.unrotate(jnp.float32(y), key, 300), want)


@pytest.mark.parametrize('make, symbols, number', [
    (lambda: aggregation.quantize(4, coder='entropy'),
     lambda got: (got - X.min()) / (X.max() - X.min()) * 15, 16),
    (lambda: aggregation.qsgd(40, coder='entropy'),
     lambda got: got * 40 / np.linalg.norm(X) + 40, 81),
    (lambda: aggregation.terngrad(coder='entropy'),
     lambda got: np.sign(got) + 1, 3)])
def test_an_arithmetic_coder_attains_the_entropy(make, symbols, number):
  pytest.importorskip('constriction')
  from fedjax_sim.core import range_coder
  got, counted = sent_by(make())
  written = range_coder.write(
      np.rint(symbols(got)).astype(int), number)
  floats = 64 if number == 16 else 32
  # Whole words of 32 bits.
  assert abs(len(written) + floats - counted) < 0.01 * counted + 32
  assert counted < 0.95 * (floats + N * np.log2(number))

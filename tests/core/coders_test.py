"""Counted bits against those that coders really write, and read again."""

import math

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim.core import bit_streams, coders, range_coder

RNG = np.random.default_rng(0)
# Small ones, all around powers of two, and large ones.
NUMBERS = np.concatenate([
    np.arange(1, 70), *(2 ** i + np.arange(-1, 2) for i in range(3, 31)),
    RNG.geometric(0.02, 500)]).astype(np.int32)


@pytest.mark.parametrize('name', ['gamma', 'omega'])
def test_integers(name):
  stream = getattr(bit_streams, name)(NUMBERS)
  reader = bit_streams.Reader(stream)
  np.testing.assert_array_equal(
      getattr(reader, name)(len(NUMBERS)), NUMBERS)
  assert reader.left == 0
  assert getattr(coders, name)(jnp.asarray(NUMBERS)) == len(stream)


def test_codewords_are_those_of_elias():
  text = lambda stream: ''.join(str(int(bit)) for bit in stream)
  for value, gamma, omega in ((1, '1', '0'), (2, '010', '100'),
                              (5, '00101', '101010'),
                              (16, '000010000', '10100100000')):
    assert text(bit_streams.gamma(np.array([value]))) == gamma
    assert text(bit_streams.omega(np.array([value]))) == omega


@pytest.mark.parametrize('parameter', [0, 3])
def test_rice(parameter):
  values = RNG.geometric(0.1, 300) - 1
  stream = bit_streams.rice(values, parameter)
  np.testing.assert_array_equal(
      bit_streams.Reader(stream).rice(300, parameter), values)
  assert coders.rice(jnp.asarray(values), parameter) == len(stream)


def masks(size):
  yield from (np.zeros(size, bool), np.ones(size, bool))
  for share in (0.003, 0.1, 0.4, 0.9):
    yield RNG.random(size) < share
  yield np.arange(size) >= size - 5  # One long run.


def test_positions():
  for mask in [*masks(2000), *masks(7)]:
    stream = bit_streams.positions(mask)
    reader = bit_streams.Reader(stream)
    np.testing.assert_array_equal(reader.positions(mask.size), mask)
    assert reader.left == 0
    assert coders.positions(jnp.asarray(mask)) == len(stream)
    assert len(stream) < 1.05 * mask.size + 2 * mask.size.bit_length() + 2


def test_positions_of_a_random_mask_take_about_their_entropy():
  size, count = 200_000, 2000
  mask = np.zeros(size, bool)
  mask[RNG.choice(size, count, replace=False)] = True
  # log2 (size over count), the least for any so many places.
  log2_factorial = lambda n: math.lgamma(n + 1) / math.log(2)
  least = log2_factorial(size) - log2_factorial(count) - log2_factorial(
      size - count)
  assert least < coders.positions(jnp.asarray(mask)) < 1.03 * least


@pytest.mark.parametrize('base, most', [(2, 1), (3, 1.6), (5, 32 / 13),
                                        (16, 4), (1000, 32 / 3)])
def test_digits(base, most):
  values = RNG.integers(0, base, 1170)
  stream = bit_streams.digits(values, base)
  np.testing.assert_array_equal(
      bit_streams.Reader(stream).digits(1170, base), values)
  assert coders.digits(1170, base) == len(stream)
  assert np.log2(base) * 1170 <= len(stream) < most * 1170 + 32


def test_fixed_width_and_floats():
  values, numbers = RNG.integers(0, 8, 50), RNG.normal(size=9).astype('f4')
  stream = np.concatenate([
      bit_streams.fixed(values, 3), bit_streams.floats(numbers)])
  reader = bit_streams.Reader(stream)
  np.testing.assert_array_equal(reader.fixed(50, 3), values)
  np.testing.assert_array_equal(reader.floats(9), numbers)
  assert len(stream) == 50 * 3 + 9 * 32


@pytest.mark.parametrize('shares', [(0.9, 0.07, 0, 0.03), (0.25,) * 4, (1, 0)])
def test_an_arithmetic_coder_attains_the_entropy(shares):
  """Within 1%, with what the decoder has to be told of the symbols."""
  pytest.importorskip('constriction')
  symbols = RNG.choice(len(shares), 40_000, p=shares)
  stream = range_coder.write(symbols, len(shares))
  got = range_coder.read(
      bit_streams.Reader(stream), symbols.size, len(shares))
  np.testing.assert_array_equal(got, symbols)
  counted = coders.entropy(jnp.asarray(symbols), len(shares))
  assert abs(counted - len(stream)) <= 0.01 * len(stream) + 32
  p = np.array([x for x in shares if x])
  least = 40_000 * -(p * np.log2(p)).sum()
  assert len(stream) < 1.03 * least + 150


def test_counts_are_exact_where_a_float_would_stand_still():
  assert coders.total(jnp.ones(2 ** 24 + 2 ** 20, bool)) == 2 ** 24 + 2 ** 20
  many = jnp.full(3 * 2 ** 20 + 1, 4001)
  assert coders.total(many) == pytest.approx((3 * 2 ** 20 + 1) * 4001, rel=1e-6)


def test_under_vmap_each_client_has_its_own_count():
  rows = np.stack([mask for mask in masks(300)])
  got = jax.jit(jax.vmap(coders.positions))(rows)
  np.testing.assert_array_equal(
      got, [len(bit_streams.positions(mask)) for mask in rows])

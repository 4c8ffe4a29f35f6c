"""TernGrad, DRIVE, EDEN and signs against slow references in NumPy."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.aggregation import hadamard, tally
from fedjax_sim.aggregation.eden import normal_levels
from fedjax_sim.core.types import Message
from tests.aggregation import sending

RNG = np.random.default_rng(0)
X = RNG.normal(0.1, 1.0, 48)
X[0] = 9.0  # Beyond 2.5 deviations.


def test_terngrad_layer_by_layer_with_clipping():
  """Wen et al. (2017): values are -s, 0 or s; P(not 0) = |g| / s."""
  update = {'a': jnp.float32(X), 'b': jnp.float32(0.01 * X[::-1])}
  keys = jax.random.split(jax.random.key(0), 2000)
  part = aggregation.terngrad()
  drawn = jax.jit(jax.vmap(lambda key: sending.send(
      part, update, sending.KEYS._replace(client=key)).update))(keys)
  for name, x in update.items():
    x = np.asarray(x, np.float64)
    bound = 2.5 * x.std()
    g = np.clip(x, -bound, bound)
    s = np.abs(g).max()
    assert s == pytest.approx(bound)  # One is clipped.
    got = np.asarray(drawn[name], np.float64) / s
    np.testing.assert_allclose(got, np.rint(got), atol=1e-6)
    assert (got * np.sign(g) >= 0).all()
    chance = np.abs(g) / s
    error = 5 * np.sqrt(chance * (1 - chance) / len(keys)) + 1e-6
    assert (np.abs(np.abs(got).mean(0) - chance) < error).all()


def rotation(key, size):
  """The matrix [P, n] of a client's rotation."""
  rows = jax.vmap(lambda e: hadamard.rotate(e, key))(jnp.eye(size))
  return np.asarray(rows, np.float64).T


@pytest.mark.parametrize('bits, unbiased', [
    (None, True), (None, False), (1, True), (3, True), (2, False)])
def test_drive_and_eden_are_their_algorithms(bits, unbiased):
  part = (aggregation.drive(unbiased=unbiased) if bits is None
          else aggregation.eden(bits, unbiased=unbiased))
  got = sending.receive(part, {'a': jnp.float32(X.reshape(6, 8))})['a']
  matrix = rotation(jax.random.fold_in(sending.KEYS.client, 0), X.size)
  np.testing.assert_allclose(matrix.T @ matrix, np.eye(48), atol=1e-6)
  z = matrix @ X
  if bits is None:
    q = np.sign(z)
  else:
    levels = normal_levels(bits)
    scaled = np.sqrt(len(z)) * z / np.linalg.norm(z)
    q = levels[np.argmin(np.abs(scaled[:, None] - levels), axis=1)]
  scale = X @ X / (z @ q) if unbiased else z @ q / (q @ q)
  want = scale * matrix.T @ q
  np.testing.assert_allclose(np.ravel(got), want, atol=1e-5)
  if unbiased:
    assert np.ravel(got) @ X == pytest.approx(X @ X, rel=1e-5)


@pytest.mark.parametrize('bits, levels, error', [
    (1, [0.7979], 0.3634), (2, [0.4528, 1.510], 0.1175),
    (3, [0.2451, 0.7560, 1.344, 2.152], 0.03454)])
def test_levels_are_those_of_max(bits, levels, error):
  """Max, "Quantizing for Minimum Distortion" (1960), table I."""
  got = normal_levels(bits)
  np.testing.assert_allclose(got[len(got) // 2:], levels, rtol=3e-4)
  x = np.linspace(-9, 9, 200_001)
  weight = np.exp(-x ** 2 / 2) / np.sqrt(2 * np.pi) * (x[1] - x[0])
  nearest = np.abs(x[:, None] - got).min(1)
  assert weight @ nearest ** 2 == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize('bits', [1, 4, 8, 12, 16])
def test_levels_are_means_between_edges_and_ever_finer(bits):
  levels = normal_levels(bits)
  np.testing.assert_allclose(levels, -levels[::-1])
  assert (np.diff(levels) > 0).all()
  number = 2 ** bits
  middle = levels[number // 2:number // 2 + 3]
  # In the limit of many, the density of levels is that of N(0, 3).
  if bits >= 8:
    gaps = np.diff(middle)
    np.testing.assert_allclose(
        gaps, np.sqrt(6 * np.pi) / number, rtol=0.05)


def error(part, x, clients):
  """Of the mean of many clients' messages, as part of |x|^2."""
  drawn = sending.draws(part, jnp.float32(x), clients)
  return np.sum((drawn.mean(0) - x) ** 2) / np.sum(x ** 2)


def test_a_mean_of_many_clients_is_better_unless_a_value_stands_out():
  """pi / 2 - 1 for one client is what the paper has for many values."""
  x = RNG.normal(size=256)
  assert error(aggregation.drive(), x, 1) == pytest.approx(
      np.pi / 2 - 1, rel=0.2)
  assert error(aggregation.drive(), x, 400) < 2 * (np.pi / 2 - 1) / 400
  assert error(aggregation.drive(unbiased=False), x, 400) > 0.1
  x[0] = 20
  assert error(aggregation.drive(), x, 400) > 0.04
  assert error(aggregation.eden(3), x, 400) < 2 * 0.036 / 400


def test_signs_of_zeros_are_fair():
  x = jnp.float32([2.0, -3.0, 0.0, 0.0])
  drawn = sending.draws(aggregation.sign_sgd(), x, 1000)
  np.testing.assert_array_equal(drawn[:, :2], np.tile([1, -1], (1000, 1)))
  np.testing.assert_array_equal(np.abs(drawn[:, 2:]), 1)
  assert np.abs(drawn[:, 2:].mean(0)).max() < 5 / np.sqrt(1000)
  assert abs(np.mean(drawn[:, 2] * drawn[:, 3])) < 5 / np.sqrt(1000)


def test_a_majority_of_those_present_whatever_they_weigh():
  votes = np.array([[1, -0.5, 2], [3, -9, -1], [-0.1, 4, 5], [np.nan] * 3])
  messages = Message(
      {'a': jnp.float32(votes)}, jnp.float32([1, 1, 100, 1]),
      jnp.array([True, True, True, False]), {})
  reducer = aggregation.majority_vote()
  one = jax.tree.map(lambda x: x[0], messages)
  accumulator = reducer.accumulate(reducer.init(one, 4), messages)
  aggregate, _, _ = reducer.finalize(accumulator, (), None, None)
  np.testing.assert_array_equal(
      aggregate.mean['a'], np.sign(np.sign(votes[:3]).sum(0)))
  assert aggregate.count == 3 and aggregate.weight == 102
  nobody = reducer.finalize(reducer.init(one, 4), (), None, None)[0]
  np.testing.assert_array_equal(nobody.mean['a'], 0)
  assert isinstance(accumulator[1], tally.Tally)


def test_casts_round_to_the_nearest_or_to_a_neighbour():
  x = jnp.float32([1.0, 1.0 + 2 ** -9, -3.14159, 65505.0, 1e30, 3e-39])
  near = sending.receive(aggregation.cast(), {'a': x})['a']
  np.testing.assert_array_equal(
      np.asarray(near), np.asarray(x.astype(jnp.bfloat16), np.float32))
  assert near.dtype == jnp.float32
  half = sending.receive(aggregation.cast('float16'), {'a': x})['a']
  np.testing.assert_array_equal(np.isinf(half), [0, 0, 0, 0, 1, 0])
  drawn = sending.draws(aggregation.cast(stochastic=True), x, 200)
  np.testing.assert_array_equal(drawn[:, 0], 1)
  assert set(drawn[:, 1]) == {1, 1 + 2 ** -7}


def test_narrow_leaves_are_not_cast():
  update = {'a': jnp.bfloat16(X), 'b': jnp.float32(X), 'c': jnp.float16(X)}
  sent = sending.send(aggregation.cast('float16'), update)
  assert [str(sent.update[name].dtype) for name in 'abc'] == [
      'bfloat16', 'float16', 'float16']
  assert sent.cost.values == {'a': 768, 'b': 768, 'c': 768}

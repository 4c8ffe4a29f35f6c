import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation, algorithms, simulate
from fedjax_sim.core.types import Message
from tests import toys


def clipped(update, norm):
  message = Message(update, jnp.float32(1))
  return aggregation.clip(norm).client(
      message, (), (), None, None)[0].update


def test_the_whole_tree_has_one_norm():
  update = {'a': jnp.array([3.0, 0]), 'b': jnp.array([[4.0], [12]])}  # 13.
  got = clipped(update, 6.5)
  np.testing.assert_allclose(got['a'], [1.5, 0], rtol=1e-6)
  np.testing.assert_allclose(got['b'], [[2], [6]], rtol=1e-6)


@pytest.mark.parametrize('values', [[0.0, 0], [0.3, 0.4], [0.1, -0.7]])
def test_short_updates_keep_their_bits(values):
  update = {'a': jnp.array(values)}
  np.testing.assert_array_equal(clipped(update, 1.0)['a'], update['a'])


def test_it_goes_before_the_mean():
  """Steps of 0.1 * distance: 0.1 and 2, the second clipped to 0.5."""
  model = toys.quadratic_model()
  data = toys.points_data([np.array([[1.0, 0]]), np.array([[0, 20.0]])])
  algorithm = algorithms.fedavg(
      model, optax.sgd(0.1),
      aggregator=aggregation.aggregator(aggregation.clip(0.5)))
  result = simulate(model, algorithm, data, rounds=1, client_fraction=1.0)
  np.testing.assert_allclose(
      result.variables.params['w'], [0.05, 0.25], rtol=1e-6)


@pytest.mark.parametrize('norm', [0, -1.0, float('nan')])
def test_bad_norm(norm):
  with pytest.raises(ValueError, match='norm'):
    aggregation.clip(norm)


def test_an_adaptive_norm_finds_the_quantile():
  """The model stays at 0 (server rate 0), so norms are 0.1 * distance."""
  model = toys.quadratic_model()
  lengths = np.array([0.1, 0.2, 0.3, 0.7, 0.8])
  data = toys.points_data([np.array([[10 * d, 0]]) for d in lengths])
  algorithm = algorithms.fedavg(
      model, optax.sgd(0.1), optax.sgd(0.0),
      aggregator=aggregation.aggregator(aggregation.adaptive_clip(
          1.0, quantile=0.5, learning_rate=0.3)))
  result = simulate(
      model, algorithm, data, rounds=80, client_fraction=1.0, lanes=2)
  (state,) = result.state.aggregator
  assert 0.25 < state.transform['adaptive_clip'] < 0.35

"""Masked sums of integers."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation, algorithms
from fedjax_sim.aggregation.chain import nobody
from fedjax_sim.aggregation.secure import pairwise_masks
from fedjax_sim.core.types import Keys, Message
from tests import toys
from tests.algorithms.cases import sgd_in_steps

MODEL = toys.quadratic_model()
SCALE = 2.0 ** 16


def masks(places, key):
  """What clients at these places of a cohort of four add to a zero."""
  cohort = nobody(4)._replace(
      place=jnp.arange(4), size=jnp.ones(4, jnp.int32),
      present=jnp.isin(jnp.arange(4), jnp.array(places)))
  zero = {'a': jnp.zeros(500, jnp.int32)}

  def one(place):
    slot = jax.tree.map(lambda x: x[place], cohort)
    message = Message(zero, jnp.float32(1), slot=slot)
    return pairwise_masks().client(
        message, (), (), Keys(key, key), cohort)[0].update['a']

  return np.stack([one(place) for place in places]).astype(np.int64)


def test_masks_of_a_sampled_cohort_cancel_and_are_of_their_round():
  for key in map(jax.random.key, (0, 1)):
    drawn = masks([0, 2, 3], key)
    np.testing.assert_array_equal(drawn.sum(0) % 2 ** 32, 0)
    # Uniform over all integers: of mean 0 and deviation 2^32 / sqrt(12).
    assert np.abs(drawn.mean(1)).max() < 5 * 2 ** 32 / np.sqrt(12 * 500)
    np.testing.assert_allclose(drawn.std(1), 2 ** 32 / np.sqrt(12), rtol=0.1)
  assert (masks([0, 2], jax.random.key(0))
          != masks([0, 2], jax.random.key(1))).all()


def test_it_is_the_weighted_mean():
  data = toys.points_data([np.array([[0.0, 0]]), np.tile([[1.0, 2]], (3, 1)),
                           np.array([[-2.0, 1]] * 2), np.array([[5.0, 5]])])
  cohorts = [[0, 1, 2], [3], [1, 3], [2, 0, 1]]
  weights = [
      toys.run_cohorts(MODEL, algorithms.fedavg(
          MODEL, optax.sgd(0.1), aggregator=aggregator), data, cohorts)
      .server.variables.params['w']
      for aggregator in (None, aggregation.masked_mean(SCALE))]
  np.testing.assert_allclose(*weights, atol=len(cohorts) * 3 / SCALE)


def test_who_can_do_no_step_leaves_the_masks_to_cancel():
  """Clients of three or more examples have full batches, the others none."""
  data = toys.softmax_data([3, 1, 5, 2, 4])
  cohorts = [[0, 1, 2, 3], [1, 4], [3, 0, 2]]
  model = toys.softmax_model()
  for weighting in ('examples', 'uniform'):
    masked, plain = [toys.run_cohorts(model, sgd_in_steps(
        model, batch_size=3, drop_remainder=True, weighting=weighting,
        aggregator=aggregator), data, cohorts).server.variables.params['w']
                     for aggregator in (aggregation.masked_mean(SCALE), None)]
    np.testing.assert_allclose(masked, plain, atol=len(cohorts) * 4 / SCALE)


def test_groups_are_refused():
  algorithm = algorithms.ifca(MODEL, optax.sgd(0.1), clusters=2,
                              aggregator=aggregation.masked_mean())
  with pytest.raises(ValueError, match='masked_mean must have one sum'):
    toys.run_cohorts(MODEL, algorithm, toys.points_data(
        [np.zeros((1, 2))] * 2), [[0, 1]])


def mean_of_two(points, aggregator):
  """The model after a step all the way to the clients' mean."""
  data = toys.points_data([np.array([point]) for point in points])
  algorithm = algorithms.fedavg(
      MODEL, optax.sgd(1.0), aggregator=aggregator)
  return toys.run_cohorts(
      MODEL, algorithm, data, [[0, 1]]).server.variables.params['w']


def test_the_sum_can_not_overflow():
  """Each of two clients reaches 2^30 / scale = 16, and 2^31 is never met."""
  got = mean_of_two([(1e9, -1e9), (1e9, 1.0)],
                    aggregation.masked_mean(2.0 ** 26))
  np.testing.assert_allclose(got, [16, -7.5], rtol=1e-5)
  with pytest.raises(ValueError, match='scale of masked_mean .*1.07374e'):
    mean_of_two([(0, 0), (1, 1)], aggregation.masked_mean(2e9))


@pytest.mark.parametrize('wrong', [np.nan, np.inf])
def test_updates_that_are_not_finite_reach_the_model(wrong):
  masked = aggregation.masked_mean()
  spoilt = aggregation.transform(
      'spoilt', client=lambda message, state, memory, keys, cohort: (
          message._replace(update=jax.tree.map(
              lambda u: jnp.where(message.slot.client == 0, wrong, u),
              message.update)), memory))
  got = mean_of_two([(0, 0), (1, 1)], masked._replace(
      transform=aggregation.chain(spoilt, masked.transform)))
  assert np.isnan(got).all()

"""The median and the trimmed mean, in a round with outliers."""

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation, algorithms
from tests import toys
from tests.aggregation.reducers_test import messages, reduced

MODEL = toys.quadratic_model()


def test_median_ignores_an_outlier():
  data = toys.points_data([np.array([c]) for c in (
      (0, 0), (1, 2), (2, 1), (9, 9), (1e6, -1e6))])
  algorithm = algorithms.fedavg(
      MODEL, optax.sgd(1.0), aggregator=aggregation.aggregator(
          reduce=aggregation.median()))
  state = toys.run_cohorts(MODEL, algorithm, data, [range(5)])
  np.testing.assert_allclose(
      state.server.variables.params['w'], [2, 1], rtol=1e-6)


def trimmed(values, fraction):
  """The trimmed mean along the first axis, entry by entry."""
  ordered, n = np.sort(values, axis=0), len(values)
  cut = int(fraction * n + 1e-9)
  return ordered[cut:n - cut].mean(axis=0)


@pytest.mark.parametrize('present', [
    [True] * 6, [True, False, True, True, True, False], [False] * 5 + [True]])
@pytest.mark.parametrize('fraction', [0.0, 0.25, 0.34, 0.49])
def test_the_trimmed_mean_of_those_present(fraction, present):
  sent = messages(present)
  got = reduced(aggregation.trimmed_mean(fraction), sent)
  jax.tree.map(lambda value, x: np.testing.assert_allclose(
      value, trimmed(np.asarray(x)[np.array(present)], fraction), rtol=1e-5,
      atol=1e-7), got.mean, sent.update)
  assert got.count == sum(present)


def test_the_trimmed_mean_bears_as_many_outliers_as_it_leaves_out():
  sent = messages([True] * 6)
  wild = sent._replace(update=jax.tree.map(
      lambda x: x.at[0].set(jnp.nan).at[1].set(-jnp.inf), sent.update))
  got = reduced(aggregation.trimmed_mean(0.2), wild)  # One at each end.
  for name, x in sent.update.items():
    np.testing.assert_allclose(
        got.mean[name], np.asarray(x)[2:].mean(axis=0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('fraction', [-0.1, 0.5, 'a'])
def test_a_fraction_that_leaves_nothing_is_refused(fraction):
  with pytest.raises(ValueError, match='fraction must'):
    aggregation.trimmed_mean(fraction)

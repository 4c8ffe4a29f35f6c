"""The median, in a round with an outlier."""

import numpy as np
import optax

from fedjax_sim import aggregation, algorithms
from tests import toys

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

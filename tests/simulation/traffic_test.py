"""Bytes on the wire, against what the papers say that clients exchange."""

import jax
import numpy as np
import optax
import pytest

from fedjax_sim import algorithms
from fedjax_sim.simulation import traffic
from tests import toys

MODEL = toys.softmax_model()
EXAMPLES = toys.softmax_data([5]).examples
VARIABLES = jax.eval_shape(
    MODEL.init, jax.random.key(0), EXAMPLES['x'][:1])
W, B = (4 * int(np.prod(VARIABLES.params[name].shape)) for name in 'wb')
SGD = optax.sgd(0.1)
ROUND = WEIGHT = GROUP = 4


@pytest.mark.parametrize('algorithm, down, up', [
    (algorithms.fedavg(MODEL, SGD), W + B + ROUND, W + B + WEIGHT),
    # The shared part only.
    (algorithms.fedper(MODEL, SGD, personal='/b$'), W + ROUND, W + WEIGHT),
    # The control variate beside the model, both ways, and who sends the first.
    (algorithms.scaffold(MODEL, 0.1),
     2 * (W + B) + ROUND, 2 * (W + B) + 3 * WEIGHT),
    # Of the model alone: the server knows how control variates follow.
    (algorithms.feddyn(MODEL, SGD, alpha=1.0),
     W + B + ROUND, W + B + 3 * WEIGHT),
    # The model and the cohort's gradient; a gradient up, and then an update.
    (algorithms.mime(MODEL, SGD),
     2 * (W + B) + ROUND, 2 * (W + B + WEIGHT)),
    # All K models down, one up, and which.
    (algorithms.ifca(MODEL, SGD, clusters=3),
     3 * (W + B) + ROUND, W + B + WEIGHT + GROUP),
    # One edge's model, and which, both ways.
    (algorithms.hierfavg(MODEL, SGD, edges=3, kappa2=2),
     W + B + ROUND + GROUP, W + B + WEIGHT + GROUP),
], ids=['fedavg', 'fedper', 'scaffold', 'feddyn', 'mime', 'ifca', 'hierfavg'])
def test_bytes_of_a_client_in_a_round(algorithm, down, up):
  assert traffic.per_client(algorithm, EXAMPLES, VARIABLES)[:2] == (down, up)

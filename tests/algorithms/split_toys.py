"""A model in two parts, loss |body + 2 head - x|^2 / 2, and NumPy's rounds."""

import numpy as np
from jax import numpy as jnp

from fedjax_sim.core.types import Model, Variables
from tests import toys

BODY, HEAD = np.array([1.0, 2.0]), np.array([0.5, -0.5])
CENTRES, SIZES = np.array([(0, 1), (4, 2), (-3, 5)], float), [3, 4, 2]


def model():
  """Parameters 'body' and 'head', [2] each."""
  base = toys.quadratic_model()

  def init(key, inputs):
    del key, inputs
    return Variables({'body': jnp.asarray(BODY, jnp.float32),
                      'head': jnp.asarray(HEAD, jnp.float32)}, {})

  def apply(params, state, inputs, *, key, train, mask):
    del key, train, mask
    where = params['body'] + 2 * params['head']
    return jnp.broadcast_to(where, inputs.shape), state

  return Model(init, apply, base.loss, base.metrics)


def data():
  """Each client's examples are copies of its centre."""
  return toys.points_data([np.tile(c, (n, 1))
                           for c, n in zip(CENTRES, SIZES, strict=True)])


def step(body, head, client, rate):
  """Both after a step of gradient descent: (body, head)."""
  residual = body + 2 * head - CENTRES[client]
  return body - rate * residual, head - rate * 2 * residual

import numpy as np
from jax import numpy as jnp

from fedjax_sim.core.largest import largest


def test_a_threshold_among_equal_keys():
  keys = jnp.array([7, 3, 7, 7, 0, 7], jnp.uint32)
  for k, want in ((1, [1, 0, 0, 0, 0, 0]), (3, [1, 0, 1, 1, 0, 0]),
                  (5, [1, 1, 1, 1, 0, 1]), (6, [1] * 6)):
    np.testing.assert_array_equal(largest(keys, k), want)

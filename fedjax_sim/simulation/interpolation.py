"""The loss between two models: McMahan et al. (2016), section 2, figure 1.

    L(theta) = mean over the examples of loss(theta w + (1 - theta) w')

At theta = 1 and 0 these are the two models, at 1/2 their average, which is
FedAvg's for two clients of equal size.
"""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core.types import Model, PyTree, Variables
from fedjax_sim.simulation import evaluation


def loss_between(
    model: Model,
    variables_a: Variables,
    variables_b: Variables,
    examples: PyTree,
    thetas: Any,
    batch_size: int = 1000,
) -> np.ndarray:
  """Mean loss of theta * a + (1 - theta) * b, in one compiled program.

  Args:
    model: the model of both.
    variables_a: w; its state (BatchNorm's statistics) is mixed like the
      weights.
    variables_b: w', of the same shapes.
    examples: PyTree [E, ...]; each counts once.
    thetas: [K] finite numbers; outside of [0, 1] it is extrapolated.
    batch_size: examples at once.

  Returns:
    float64 [K].

  Raises:
    ValueError: thetas are not such numbers, the variables differ in structure
      or shapes, or there is no example.
  """
  thetas = np.asarray(thetas)
  numeric = thetas.dtype.kind in 'iuf' and np.all(np.isfinite(thetas))
  if thetas.ndim != 1 or not numeric:
    raise ValueError(
        f'thetas must be a 1-D array of finite numbers, got {thetas!r}.')
  _check_alike(variables_a, variables_b)
  data = evaluation.in_batches(examples, batch_size)
  evaluate = evaluation.evaluator(model)

  @jax.jit
  def losses(a, b, data, thetas):
    mix = lambda theta: jax.tree.map(
        lambda x, y: theta * x + (1 - theta) * y, a, b)
    return jax.lax.map(lambda theta: evaluate(mix(theta), data)['loss'], thetas)

  total, count = jax.device_get(
      losses(variables_a, variables_b, data, jnp.asarray(thetas, jnp.float32)))
  return np.float64(total) / count


def _check_alike(a: Variables, b: Variables) -> None:
  shapes = [jax.tree.map(np.shape, variables) for variables in (a, b)]
  if shapes[0] != shapes[1]:
    raise ValueError(
        'variables_a and variables_b must be of the same shapes, got '
        f'{shapes[0]} and {shapes[1]}.')

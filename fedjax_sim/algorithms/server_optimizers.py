"""Server optimizers of the field, as optax transformations.

With g_t the pseudo-gradient, minus the clients' mean update, so that
Delta_t = -g_t, and from m_{-1} = 0, v_{-1} = tau^2:

    m_t = beta1 m_{t-1} + (1 - beta1) Delta_t
    v_t = v_{t-1} + Delta_t^2                                     (FedAdagrad)
    v_t = v_{t-1} - (1 - beta2) Delta_t^2 sign(v_{t-1} - Delta_t^2)  (FedYogi)
    v_t = beta2 v_{t-1} + (1 - beta2) Delta_t^2                      (FedAdam)
    x_{t+1} = x_t + eta m_t / (sqrt(v_t) + tau)

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan, "Adaptive
Federated Optimization" (2021), algorithm 2. Unlike optax's own adam and yogi
they correct no bias, start from tau^2 and not from 0, and tau is 1e-3, not
1e-8: it bounds the step where few clients have moved a weight.

FedAvgM is heavy ball, Hsu, Qi, Brown, "Measuring the Effects of Non-Identical
Data Distribution for Federated Visual Classification" (2019), section 4.3.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.core import checks, specs
from fedjax_sim.core.types import PyTree


class AdaptiveState(NamedTuple):
  """State of the adaptive ones.

  Attributes:
    count: int32 [], steps done.
    m: PyTree like the parameters, the mean of updates.
    v: PyTree like the parameters, of their squares.
  """

  count: jax.Array
  m: PyTree
  v: PyTree


@specs.traceable('momentum')
def fedavgm(
    learning_rate: optax.ScalarOrSchedule, momentum: float = 0.9
) -> optax.GradientTransformation:
  """FedAvgM: v <- momentum v + g, then w <- w - eta v.

  Args:
    learning_rate: eta, positive, or a schedule of the server's steps.
    momentum: in [0, 1).

  Raises:
    ValueError: an argument is out of range.
  """
  checks.decay('momentum', momentum)
  _check_rate(learning_rate)
  return optax.sgd(learning_rate, momentum=momentum)


@specs.traceable('tau')
def fedadagrad(
    learning_rate: optax.ScalarOrSchedule, tau: float = 1e-3
) -> optax.GradientTransformation:
  """FedAdagrad; beta1 is 0, as in the paper's experiments.

  Args:
    learning_rate: eta, positive, or a schedule of the server's steps.
    tau: positive; the larger, the less the steps are adapted.

  Raises:
    ValueError: an argument is out of range.
  """
  return _adaptive(learning_rate, 0.0, tau, lambda v, square: v + square)


@specs.traceable('beta1', 'beta2', 'tau')
def fedyogi(
    learning_rate: optax.ScalarOrSchedule,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-3,
) -> optax.GradientTransformation:
  """FedYogi.

  Args:
    learning_rate: eta, positive, or a schedule of the server's steps.
    beta1: decay of the mean of updates, in [0, 1).
    beta2: decay of the mean of squares, in [0, 1).
    tau: positive; the larger, the less the steps are adapted.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.decay('beta2', beta2)
  return _adaptive(
      learning_rate, beta1, tau,
      lambda v, square: v - (1 - beta2) * square * jnp.sign(v - square))


@specs.traceable('beta1', 'beta2', 'tau')
def fedadam(
    learning_rate: optax.ScalarOrSchedule,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-3,
) -> optax.GradientTransformation:
  """FedAdam.

  Args:
    learning_rate: eta, positive, or a schedule of the server's steps.
    beta1: decay of the mean of updates, in [0, 1).
    beta2: decay of the mean of squares, in [0, 1).
    tau: positive; the larger, the less the steps are adapted.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.decay('beta2', beta2)
  return _adaptive(
      learning_rate, beta1, tau,
      lambda v, square: beta2 * v + (1 - beta2) * square)


def _adaptive(
    learning_rate: optax.ScalarOrSchedule,
    beta1: float,
    tau: float,
    next_v: Callable[[jax.Array, jax.Array], jax.Array],
) -> optax.GradientTransformation:
  """Algorithm 2 with `next_v`: (v_{t-1}, Delta_t^2) -> v_t."""
  checks.decay('beta1', beta1)
  checks.positive('tau', tau)
  _check_rate(learning_rate)

  def init(params) -> AdaptiveState:
    return AdaptiveState(
        jnp.int32(0), jax.tree.map(jnp.zeros_like, params),
        jax.tree.map(lambda p: jnp.zeros_like(p) + tau ** 2, params))

  def update(grads, state: AdaptiveState, params=None):
    del params
    rate = learning_rate
    if callable(rate):
      rate = rate(state.count)
    m = jax.tree.map(
        lambda m, g: beta1 * m - (1 - beta1) * g, state.m, grads)
    v = jax.tree.map(lambda v, g: next_v(v, g ** 2), state.v, grads)
    updates = jax.tree.map(
        lambda m, v: (rate * m / (jnp.sqrt(v) + tau)).astype(m.dtype), m, v)
    return updates, AdaptiveState(state.count + 1, m, v)

  return optax.GradientTransformation(init, update)


def _check_rate(learning_rate: optax.ScalarOrSchedule) -> None:
  if not callable(learning_rate):
    checks.positive('learning_rate', learning_rate)

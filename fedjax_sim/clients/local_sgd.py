"""Local SGD: the work of a client in FedAvg and in most of its relatives.

McMahan et al. (2016), algorithm 1, ClientUpdate: for each local epoch, for each
batch b of the client's examples, w <- w - eta * grad loss(w; b), the loss being
the mean over the batch. Any optax optimizer takes the place of plain SGD.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.clients import batches, gradients
from fedjax_sim.core import frozen, optimizers, precision
from fedjax_sim.core.types import (
    ClientData,
    Message,
    MetricSums,
    Model,
    PyTree,
    Variables,
)

# (Variables, Batch) -> (gradient, model state, metrics), as `batch_gradient`.
Gradient = Callable[
    [Variables, batches.Batch], tuple[PyTree, PyTree, MetricSums]]
Weighting = Callable[[ClientData], jax.Array]
WEIGHTINGS: dict[str, Weighting] = {
    'examples': lambda data: data.size.astype(precision.scalar()),
    'uniform': lambda data: jnp.ones((), precision.scalar()),
}


class LocalState(NamedTuple):
  """What a client carries through its local steps.

  Attributes:
    variables: the local model.
    opt_state: the client optimizer's state.
    num_steps: int32 [], optimizer steps done.
    metrics: MetricSums of the training batches, before each step.
    travels: `restriction.Travels`, what is sent of the variables where
      training was restricted, else None.
  """

  variables: Variables
  opt_state: PyTree
  num_steps: jax.Array
  metrics: MetricSums
  travels: PyTree = None


def run_sgd(
    model: Model,
    optimizer: optax.GradientTransformation,
    variables: Variables,
    data: ClientData,
    key: jax.Array,
    *,
    batch_size: int | None,
    num_steps: jax.Array | None = None,
    first_step: jax.Array | int = 0,
    by_size: bool | None = None,
    step_scale: jax.Array | float = 1.0,
    correct: Callable[[PyTree, PyTree], PyTree] = lambda grads, params: grads,
    change_gradient: Callable[[Gradient], Gradient] = lambda gradient: gradient,
    opt_state: PyTree | None = None,
    micro_batch_size: int = gradients.MICRO_BATCH_SIZE,
) -> LocalState:
  """Runs local SGD from `variables` and returns where it ended.

  Args:
    model: the model.
    optimizer: any optax optimizer; its state starts anew unless given. What
      is random in it is drawn from `key`, either way.
    variables: where to start.
    data: the client's data.
    key: the client's key in this round.
    batch_size: examples a step; None is all of them.
    num_steps: int32 [], how many steps; None is one epoch. It is no more than
      `data.work`, if that is given.
    first_step: int32 [], the number of the first, as in `for_each_batch`.
    by_size: as in `for_each_batch`.
    step_scale: float32 [], multiplies every step: a learning-rate schedule by
      round relative to the optimizer's own rate.
    correct: `(gradients, params) -> gradients`, before the optimizer: proximal
      terms, drift corrections; both are wide, see `core/precision.py`.
    change_gradient: `(Gradient) -> Gradient`, what a step takes for its
      gradient, from the model's own: one at other weights, of more models.
    opt_state: the optimizer's state to start from.
    micro_batch_size: most examples whose gradient is taken at once where
      batch_size is None; see `gradients.large_batch_gradient`.

  Returns:
    The `LocalState` after the last step.
  """
  gradient = functools.partial(gradients.batch_gradient, model)
  if batch_size is None:
    gradient = functools.partial(
        gradients.large_batch_gradient, model,
        micro_batch_size=micro_batch_size)
  gradient = change_gradient(_with_frozen(gradient, variables.frozen))

  def step(local: LocalState, batch: batches.Batch) -> LocalState:
    params = local.variables.params
    grads, model_state, metrics = gradient(local.variables, batch)
    grads = correct(precision.wide(grads), precision.wide(params))
    updates, opt_state = optimizers.update(
        optimizer, grads, local.opt_state, params)
    updates = jax.tree.map(lambda u: (step_scale * u).astype(u.dtype), updates)
    # One array for all sums: on a GPU each array of a loop is a kernel a step.
    return LocalState(
        Variables(
            precision.add(params, updates),
            precision.narrow(model_state, local.variables.model_state)),
        opt_state, local.num_steps, local.metrics + _packed(metrics))

  num_steps, by_size = _cut_short(data, batch_size, num_steps, by_size)
  if opt_state is None:
    opt_state = optimizer.init(precision.wide(variables.params))
  opt_state = optimizers.seeded(opt_state, key, first_step)
  count = num_steps
  if count is None:
    count = batches.steps_per_epoch(data.size, batch_size)
  local = LocalState(
      variables._replace(frozen=None), opt_state,
      jnp.where(data.size > 0, count, 0), jnp.zeros(2, precision.scalar()))
  local = batches.for_each_batch(
      data, step, local, key=key, batch_size=batch_size, num_steps=num_steps,
      first_step=first_step, by_size=by_size)
  return local._replace(
      variables=local.variables._replace(frozen=variables.frozen),
      metrics={'loss': (local.metrics[0], local.metrics[1])})


def _cut_short(data: ClientData, batch_size: int | None, num_steps, by_size):
  """`num_steps` and `by_size` of a client that may not get all of it done."""
  if data.work is None:
    return num_steps, by_size
  if num_steps is None:
    num_steps = batches.steps_per_epoch(data.size, batch_size)
  return jnp.minimum(num_steps, data.work), False


def _with_frozen(gradient: Gradient, weights: PyTree) -> Gradient:
  """The gradient of a model whose frozen weights the loop does not carry."""
  return lambda variables, batch: gradient(
      variables._replace(frozen=weights), batch)


def _packed(metrics: MetricSums) -> jax.Array:
  """[2], the sum and the count of the loss."""
  return jnp.stack(metrics['loss']).astype(precision.scalar())


class Broadcast(NamedTuple):
  """What FedAvg's server sends: the round (int32 [], from 0) and the model."""

  round: jax.Array
  variables: Variables


def difference(local: Variables, server: Variables, weight) -> Message:
  """The message whose update is `local` minus `server`."""
  return Message(
      update=precision.difference(
          frozen.without(local), frozen.without(server)),
      weight=jnp.asarray(weight, precision.scalar()))

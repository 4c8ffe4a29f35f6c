"""FedNova: clients count by what they found, not by how many steps they made.

    round t, on each client k of the cohort S_t, from x_t:
      y_k <- tau_k local steps with rate eta, so that x_t - y_k = eta G_k a_k,
             the local gradients G_k [., tau_k] times weights a_k [tau_k]
      d_k = G_k a_k / |a_k|_1
    server:
      tau_eff = sum_k p_k |a_k|_1,      p_k = n_k / sum_{j in S_t} n_j
      x_{t+1} = x_t - tau_eff sum_k p_k eta d_k

The weights follow from the local solver (sections 3 and 4; rho momentum, mu
proximal term): plain SGD a = (1, .., 1); momentum a_s = (1 - rho^(tau - s)) /
(1 - rho); proximal a_s = (1 - eta mu)^(tau - 1 - s), s = 0 .. tau - 1. They
all are linear recursions in the gradients, and their sum is where the recursion
gets with gradients of one, which is how it is computed here: also for both.

Wang, Liu, Liang, Joshi, Poor, "Tackling the Objective Inconsistency Problem in
Heterogeneous Federated Optimization" (2020), equations 5 to 8. With equal steps
it is FedAvg.
"""

from typing import Unpack

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients.local_sgd import Broadcast, difference
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
)
from fedjax_sim.core import averages, checks, loops, specs
from fedjax_sim.core.types import (
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Model,
    Variables,
)


@specs.traceable('momentum', 'proximal')
@takes_training
def fednova(
    model: Model,
    client_lr: float,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    momentum: float = 0.0,
    proximal: float = 0.0,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds FedNova.

  Args:
    model: what is trained.
    client_lr: eta, the rate of local SGD.
    server_optimizer: as in `fedavg`.
    momentum: rho of heavy ball on the client, anew in every round.
    proximal: mu, as in `fedprox`.
    aggregator: as in `fedavg`; its transforms see normalized updates eta d_k.
    **training: as in `fedavg`.

  Returns:
    The algorithm. Model state is averaged, not normalized.
  """
  checks.rate('client_lr', client_lr)
  checks.fraction('momentum', momentum)
  train = local_training(
      model, optax.sgd(client_lr, momentum=momentum), proximal=proximal,
      **training)

  def client(server: Broadcast, client_state, data, key):
    local = train.run(server.variables, data, key, server.round)
    rate = client_lr * train.step_scale(server.round)
    norm = _norm(local.num_steps, momentum, rate * proximal)
    weight = train.weight(data)
    message = difference(local.variables, server.variables, weight)
    message = message._replace(
        update=_scale_params(message.update, 1 / jnp.maximum(norm, 1)))
    return ClientOutput(
        averages.add(message, norm=norm), client_state, local.metrics)

  base = from_client_update(
      client, server_optimizer, aggregator, train.planned_steps)

  def server(state, aggregate, key):
    mean = _scale_params(aggregate.mean, averages.of(aggregate, 'norm'))
    return base.server(state, aggregate._replace(mean=mean), key)

  return base._replace(server=server)


def _norm(num_steps: jax.Array, momentum, shrink) -> jax.Array:
  """|a|_1 after these steps; `shrink` is eta mu."""
  def step(_, carry):
    moved, velocity = carry
    velocity = momentum * velocity + 1 - shrink * moved
    return moved + velocity, velocity
  moved, _ = loops.fori_lanes(
      num_steps, step, (jnp.float32(0), jnp.float32(0)))
  return moved


def _scale_params(update: Variables, scale) -> Variables:
  return update._replace(params=jax.tree.map(
      lambda d: (scale * d).astype(d.dtype), update.params))

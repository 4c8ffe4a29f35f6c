"""FedNova: clients count by what they found, not by how many steps they made.

    round t, on each client k of the cohort S_t, from x_t:
      y_k <- tau_k local steps with rate eta, so that x_t - y_k = eta G_k a_k,
             the local gradients G_k [., tau_k] times weights a_k [tau_k]
      d_k = G_k a_k / 1'a_k
    server:
      tau_eff = sum_k p_k 1'a_k,      p_k = n_k / sum_{j in S_t} n_j
      x_{t+1} = x_t - tau_eff sum_k p_k eta d_k

1'a is the sum of a's entries. The paper has |a|_1, which is the same for its
a >= 0. Where entries are negative too it is by their sum that a constant
gradient is normalized to itself, so that clients' optima count by p_k.

The weights follow from the local solver (sections 3 and 4; rho momentum, mu
proximal term): plain SGD a = (1, .., 1); momentum a_s = (1 - rho^(tau - s)) /
(1 - rho); proximal a_s = (1 - eta mu)^(tau - 1 - s), s = 0 .. tau - 1. With
both, which the paper leaves out, m = (x_t - y_k) / eta follows

    v <- rho v + g - eta mu m,   m <- m + v,   from v = m = 0,

which is linear in the gradients g: 1'a is the m of gradients of one. So it is
computed here in all cases. Rates must be such that it is never below the 1 of
the first step (without momentum, eta mu <= 1): beyond, clients swing to the
other side of the model that they are to be held at, and 1'a may vanish.

Wang, Liu, Liang, Joshi, Poor, "Tackling the Objective Inconsistency Problem in
Heterogeneous Federated Optimization" (2020), equations 5 to 8. With equal steps
it is FedAvg.
"""

from typing import Unpack

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients.local_sgd import Broadcast
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
)
from fedjax_sim.core import averages, checks, loops, precision, specs
from fedjax_sim.core.types import (
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Model,
    Variables,
)

# The first swing back is the widest, and comes soon if it is wide.
_STEPS_LOOKED_AT = 1000


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
    momentum: rho of heavy ball on the client, in [0, 1), anew in every round.
    proximal: mu, as in `fedprox`; eta * mu must not be too large, see above.
    aggregator: as in `fedavg`; its transforms see normalized updates eta d_k.
    **training: as in `fedavg`.

  Returns:
    The algorithm. Model state is averaged, not normalized.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.rate('client_lr', client_lr)
  checks.decay('momentum', momentum)
  checks.non_negative('proximal', proximal)
  _check_swing(client_lr, proximal, momentum)
  train = local_training(
      model, optax.sgd(client_lr, momentum=momentum), proximal=proximal,
      **training)

  def client(server: Broadcast, client_state, data, key):
    local = train.run(server.variables, data, key, server.round)
    rate = client_lr * train.step_scale(server.round)
    norm = _norm(local.num_steps, momentum, rate * proximal)
    message = train.message(local, server.variables, data)
    # No step, no sum; else it is positive, though it may be below 1.
    message = message._replace(update=_scale_params(
        message.update, jnp.where(norm > 0, 1 / norm, 0)))
    return ClientOutput(
        averages.add(message, norm=norm), client_state, local.metrics)

  base = from_client_update(
      client, server_optimizer, aggregator, train.planned_steps)

  def server(state, aggregate, key):
    mean = _scale_params(aggregate.mean, averages.of(aggregate, 'norm'))
    return base.server(state, aggregate._replace(mean=mean), key)

  return base._replace(server=server)


def _norm(num_steps: jax.Array, momentum, shrink) -> jax.Array:
  """1'a after these steps; `shrink` is eta mu."""
  def step(_, carry):
    moved, velocity = carry
    velocity = momentum * velocity + 1 - shrink * moved
    return precision.narrow((moved + velocity, velocity), carry)
  moved, _ = loops.fori_lanes(
      num_steps, step, (jnp.zeros((), precision.scalar()),) * 2)
  return moved


def _scale_params(update: Variables, scale) -> Variables:
  return update._replace(params=jax.tree.map(
      lambda d: (scale * d).astype(d.dtype), update.params))


def _check_swing(client_lr, proximal, momentum) -> None:
  """ValueError if 1'a falls below 1 for any number of steps."""
  if any(map(checks.is_traced, (client_lr, proximal, momentum))):
    return
  moved = velocity = 0.0
  for step in range(_STEPS_LOOKED_AT):
    velocity = momentum * velocity + 1 - client_lr * proximal * moved
    moved += velocity
    if moved < 1 - 1e-6:
      raise ValueError(
          f'client_lr * proximal must be smaller in fednova, got {client_lr!r} '
          f'* {proximal!r} with momentum {momentum!r}: by step {step + 1} such '
          'clients swing back beyond where their first step was.')

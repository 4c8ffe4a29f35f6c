"""pFedMe: personal models by Moreau envelopes.

    round t, on each client k of the cohort, w_k = w_t, over batches b:
      theta <- K steps of rate rho on f(theta; b) + lambda / 2 |theta - w_k|^2,
               from w_k
      w_k <- w_k - eta lambda (w_k - theta)
    server:
      w_{t+1} = w_t + beta sum_k n_k (w_k - w_t) / sum_k n_k

lambda (w - theta) is the gradient of the envelope of f at w. Dinh, Tran,
Nguyen, "Personalized Federated Learning with Moreau Envelopes" (2020),
algorithm 1; there the mean is uniform (`weighting='uniform'`). Client k uses
theta_k(w) = argmin F_k(theta) + lambda / 2 |theta - w|^2, equation 2.
"""

from typing import Unpack

import jax
import optax

from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients.local_sgd import Broadcast, Gradient
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
    whole_work,
)
from fedjax_sim.core import checks, precision, random, specs
from fedjax_sim.core.types import (
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Model,
    Variables,
)


@specs.traceable('lam', 'personal_lr')
@takes_training
def pfedme(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    lam: float,
    personal_lr: float,
    personal_steps: int = 5,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds pFedMe.

  Args:
    model: what is trained.
    client_optimizer: of w_k; `optax.sgd(eta)` is the paper's.
    server_optimizer: `optax.sgd(beta)` is the paper's; None is beta = 1.
    lam: lambda, positive; eta * lambda must be below 2.
    personal_lr: rho.
    personal_steps: K, for each batch.
    aggregator: as in `fedavg`.
    **training: as in `local_training`, of w_k: each of its steps costs K.

  Returns:
    The algorithm. Clients have no state: theta_k is found anew from the global
    model, by as much local training at rate rho, in batches, as in a round
    without stragglers. `client_schedule` is of the steps of w_k alone.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.positive('lam', lam)
  checks.positive('personal_lr', personal_lr)
  checks.positive_int('personal_steps', personal_steps)
  train = local_training(model, client_optimizer, **training)
  find = local_training(model, optax.sgd(personal_lr), **whole_work(
      training, proximal=lam))

  def envelope(gradient: Gradient) -> Gradient:
    """The gradient in w of the envelope of a batch's loss."""
    def envelope_gradient(variables: Variables, batch):
      w = variables.params

      def step(carry: Variables, _):
        grads, model_state, metrics = gradient(carry, batch)
        moved = jax.tree.map(
            lambda x, g, w: x - personal_lr * (g + lam * (x - w)),
            *map(precision.wide, (carry.params, grads, w)))
        theta = precision.narrow(moved, w)
        return carry._replace(params=theta, model_state=model_state), metrics

      theta, metrics = jax.lax.scan(step, variables, length=personal_steps)
      grads = jax.tree.map(
          lambda w, x: (lam * (w - x)).astype(w.dtype),
          *map(precision.wide, (w, theta.params)))
      return grads, theta.model_state, jax.tree.map(lambda x: x[0], metrics)
    return envelope_gradient

  def client(server: Broadcast, client_state, data, key):
    local = train.run(server.variables, data, key, server.round,
                      change_gradient=envelope)
    message = train.message(local, server.variables, data)
    return ClientOutput(message, client_state, local.metrics)

  def personalize(state, client_state, data, key) -> Variables:
    return find.run(state.variables, data, random.named(key, 'personalize'),
                    state.round).variables

  return from_client_update(
      client, server_optimizer, aggregator, train.planned_steps,
  )._replace(personalize=personalize,
             local_cost=train.cost(gradients=personal_steps))

"""Per-FedAvg, first-order: a model from which one local step goes far.

    round t, on each client k of the cohort, w_k = w_t, over batches b, each
    with another batch c drawn from the client's data:
      w_k <- w_k - beta grad f(w_k - alpha grad f(w_k; c); b)
    server:
      w_{t+1} = w_t + sum_k n_k (w_k - w_t) / sum_k n_k

Clients use w_t - alpha grad F_k(w_t). Fallah, Mokhtari, Ozdaglar, "Personalized
Federated Learning: A Meta-Learning Approach" (2020), algorithm 1 in its variant
FO, which leaves the factor (1 - alpha Hessian) out.
"""

from typing import Unpack

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients import batches
from fedjax_sim.clients.local_sgd import Broadcast, Gradient
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
)
from fedjax_sim.core import checks, precision, random, specs
from fedjax_sim.core.types import (
    Aggregator,
    ClientData,
    ClientOutput,
    FederatedAlgorithm,
    Model,
    Variables,
)


@specs.traceable('personal_lr')
@takes_training
def per_fedavg(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    personal_lr: float,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds Per-FedAvg (FO).

  Args:
    model: what is trained.
    client_optimizer: of w_k; `optax.sgd(beta)` is the paper's.
    server_optimizer: as in `fedavg`.
    personal_lr: alpha, the rate of the inner step.
    aggregator: as in `fedavg`.
    **training: as in `local_training`.

  Returns:
    The algorithm. Clients have no state. A client is evaluated after one step
    of rate alpha on all of its training data; for more steps see `finetune`.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.positive('personal_lr', personal_lr)
  train = local_training(model, client_optimizer, **training)
  adapt = local_training(model, optax.sgd(personal_lr), batch_size=None)

  def client(server: Broadcast, client_state, data, key):
    def adapted(gradient: Gradient) -> Gradient:
      def adapted_gradient(variables: Variables, batch):
        grads, model_state, metrics = gradient(
            variables, _another(batch, data))
        inner = precision.add(variables.params, jax.tree.map(
            lambda g: -personal_lr * g, precision.wide(grads)))
        grads, model_state, _ = gradient(variables._replace(
            params=inner, model_state=model_state), batch)
        return grads, model_state, metrics
      return adapted_gradient

    local = train.run(server.variables, data, key, server.round,
                      change_gradient=adapted)
    message = train.message(local, server.variables, data)
    return ClientOutput(message, client_state, local.metrics)

  def personalize(state, client_state, data, key) -> Variables:
    return adapt.run(state.variables, data, random.named(key, 'personalize'),
                     state.round).variables

  return from_client_update(
      client, server_optimizer, aggregator, train.planned_steps,
  )._replace(personalize=personalize, local_cost=train.cost(gradients=2))


def _another(batch: batches.Batch, data: ClientData) -> batches.Batch:
  """A batch of that width, drawn without replacement from all of the data."""
  key = random.named(batch.key, 'another')
  width = len(batch.rows)
  order = random.random_order(key, data.size, data.max_size)[:width]
  mask = jnp.arange(width, dtype=jnp.int32) < data.size
  rows = data.offset + jnp.where(mask, order, 0)
  return batch._replace(rows=rows, mask=mask, key=key)

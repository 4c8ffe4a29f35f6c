"""FedSGD: one step on the whole local data of every client of the cohort.

    w_{t+1} = w_t - eta * sum_k n_k grad F_k(w_t) / sum_k n_k

McMahan et al. (2016), section 2: FedAvg with E = 1 and B = infinity. All
clients take their gradient at the same weights, so there is no client axis on
the weights: only gradients, not models, exist per client.
"""

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.algorithms.fedavg import Schedule, from_client_update
from fedjax_sim.clients import batches
from fedjax_sim.clients.local_sgd import WEIGHTINGS, batch_loss
from fedjax_sim.core import checks
from fedjax_sim.core.types import (
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Message,
    Model,
    Variables,
)


def fedsgd(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    weighting: str = 'examples',
    client_schedule: Schedule | None = None,
    aggregator: Aggregator | None = None,
) -> FederatedAlgorithm:
  """Builds FedSGD.

  Args:
    model: what is trained.
    client_optimizer: makes a client's gradient its update, `optax.sgd(eta)` in
      the paper.
    server_optimizer: takes minus the mean update; None is `optax.sgd(1.0)`.
    weighting: 'examples' weighs clients by n_k, 'uniform' all the same.
    client_schedule: round (from 0) -> factor on the update.
    aggregator: None is the weighted mean.

  Returns:
    The algorithm: its rounds are those of `fedavg` with one local epoch and
    batch size None, at less cost.
  """
  checks.one_of('weighting', weighting, WEIGHTINGS)

  def client(server, client_state, data, key):
    params, model_state = server.variables
    zero = jnp.float32(0)
    nothing = (jax.tree.map(jnp.zeros_like, params), model_state,
               {'loss': (zero, zero)})

    def step(carry, batch):
      del carry
      loss = lambda params: batch_loss(model, params, model_state, batch)
      grads, (state, metrics) = jax.grad(loss, has_aux=True)(params)
      return grads, state, metrics

    grads, state, metrics = batches.for_each_batch(
        data, step, nothing, key=key, batch_size=None)
    updates, _ = client_optimizer.update(
        grads, client_optimizer.init(params), params)
    scale = 1.0 if client_schedule is None else client_schedule(server.round)
    update = Variables(
        jax.tree.map(lambda u: (scale * u).astype(u.dtype), updates),
        jax.tree.map(jnp.subtract, state, model_state))
    message = Message(
        update, WEIGHTINGS[weighting](data), jnp.array(True), aux={})
    return ClientOutput(message, client_state, metrics)

  return from_client_update(client, server_optimizer, aggregator)

"""Ditto: FedAvg, and beside it a personal model for each client.

    round t, on each client k of the cohort:
      w_k <- local SGD from w_t on F_k
      v_k <- local SGD from v_k on F_k(v) + lambda / 2 |v - w_t|^2
    server:
      w_{t+1} = w_t + sum_k n_k (w_k - w_t) / sum_k n_k

Clients use v_k: with lambda = 0 it is trained alone, with a large lambda it is
the global model. Li, Hu, Beirami, Smith, "Ditto: Fair and Robust Federated
Learning Through Personalization" (2021), algorithm 1. There v_k begins at w_0;
here at the model of the client's first round.
"""

from typing import Unpack

import jax
import optax

from fedjax_sim.algorithms import personal_models
from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.algorithms.personal_models import PersonalModel
from fedjax_sim.clients.local_sgd import Broadcast
from fedjax_sim.clients.local_training import (
    LocalTraining,
    TrainingOptions,
    local_training,
    takes_training,
    whole_work,
)
from fedjax_sim.core import checks, frozen, random, specs, trees
from fedjax_sim.core.types import (
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Model,
    Variables,
)


@specs.traceable('lam')
@takes_training
def ditto(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    lam: float,
    personal_optimizer: optax.GradientTransformation | None = None,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds Ditto.

  Args:
    model: what is trained.
    client_optimizer: of the global model's local steps.
    server_optimizer: as in `fedavg`.
    lam: lambda, at least 0. With SGD at rate eta, eta * lambda must be below 2.
    personal_optimizer: of the steps on v_k; None is `client_optimizer`.
    aggregator: as in `fedavg`.
    **training: as in `local_training`, of both models, but `proximal` and
      `restrict` are of the global one.

  Returns:
    The algorithm. A client is evaluated with v_k; one that has not taken part,
    with what its first round would make v_k, without stragglers and
    `client_schedule`.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.non_negative('lam', lam)
  train = local_training(model, client_optimizer, **training)
  own = lambda **settings: local_training(
      model, personal_optimizer or client_optimizer, **settings)
  in_a_round = own(**training | {'proximal': 0.0, 'restrict': None})
  shown = own(**whole_work(training, proximal=0.0))

  def train_personal(
      train: LocalTraining, server: Broadcast, personal: PersonalModel, data,
      key) -> Variables:
    pull = lambda grads, params: jax.tree.map(
        lambda g, v, w: g + lam * (v - w), grads, params,
        server.variables.params)
    start = personal_models.start_of(personal, server.variables)
    return train.run(
        start, data, random.named(key, 'own'), server.round,
        correct=pull).variables

  def client(server: Broadcast, personal: PersonalModel, data, key):
    local = train.run(server.variables, data, key, server.round)
    message = train.message(local, server.variables, data)
    personal = personal_models.started(
        train_personal(in_a_round, server, personal, data, key))
    return ClientOutput(message, personal, local.metrics)

  # Not as steps: a client that is cut short would do as many for each model.
  base = from_client_update(
      client, server_optimizer, aggregator,
      lambda sizes: train.planned_steps(sizes))

  def personalize(state, personal: PersonalModel, data, key) -> Variables:
    first = train_personal(
        shown, base.broadcast(state), personal, data, key)
    chosen = trees.where(
        personal.started, personal.variables, frozen.without(first))
    return chosen._replace(frozen=first.frozen)

  return base._replace(
      client_init=personal_models.none_yet, personalize=personalize,
      local_cost=train.cost(gradients=2))

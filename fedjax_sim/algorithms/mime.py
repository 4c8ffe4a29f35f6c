"""Mime and MimeLite: clients take the steps of a centralized optimizer.

A base optimizer has a step U(gradient, s) and a next state V(gradient, s).

    round t, with the cohort S_t, from x_t and the optimizer's state s_t:
      c_t = mean_k grad F_k(x_t) over all local data
    on each client k, from y = x_t, at each local batch:
      g <- grad F_k(y; batch) - grad F_k(x_t; batch) + c_t           (Mime)
      g <- grad F_k(y; batch)                                    (MimeLite)
      y <- y + U(g, s_t)                              with s_t left as it is
    server:
      x_{t+1} = mean_k y_k,    s_{t+1} = V(c_t, s_t)

Karimireddy, Jaggi, Kale, Mohri, Reddi, Stich, Suresh, "Mime: Mimicking
Centralized Stochastic Algorithms in Federated Learning" (2021), algorithm 1,
with plain means over the cohort. U and V are the two results of an optax
transformation's `update`; its U of Adam has the new gradient in both moments.
So one local step of Mime is a step of the base optimizer on c_t, exactly.

Mime tells its clients c_t before they start, a second exchange in the round.
"""

from typing import NamedTuple, Unpack

import jax
import optax

from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.algorithms.pooled import pooled_gradient
from fedjax_sim.clients import gradients
from fedjax_sim.clients.local_sgd import difference
from fedjax_sim.clients.local_training import TrainingOptions, local_training
from fedjax_sim.core import checks, random, trees
from fedjax_sim.core.types import (
  Aggregator,
  ClientOutput,
  FederatedAlgorithm,
  Model,
  Pool,
  PyTree,
  Variables,
)


class Sent(NamedTuple):
  """What the server sends: round (int32 []), model, base optimizer's state."""

  round: jax.Array
  variables: Variables
  base_state: PyTree


def mime(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    *,
    weighting: str = 'uniform',
    aggregator: Aggregator | None = None,
    micro_batch_size: int = gradients.MICRO_BATCH_SIZE,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds Mime.

  Args:
    model: what is trained. One with model state raises a ValueError when it is
      initialized: gradients of pooled examples have no statistics.
    client_optimizer: such as `optax.sgd(0.1, momentum=0.9)`; its schedules
      count rounds.
    weighting: of clients in both means.
    aggregator: as in `fedavg`. The gradients for c_t go past its transforms.
    micro_batch_size: most examples whose gradient is taken at once.
    **training: as in `fedavg`.
  """
  settings = training | {
      'weighting': weighting, 'micro_batch_size': micro_batch_size}
  base = mimelite(model, client_optimizer, aggregator=aggregator, **settings)
  train = local_training(model, client_optimizer, **settings)

  def init(variables: Variables, key, num_clients):
    if jax.tree.leaves(variables.model_state):
      raise ValueError('mime needs a model without model_state, got '
                       f'{sorted(variables.model_state)}; mimelite takes any.')
    return base.init(variables, key, num_clients)

  def prepare(sent: Sent, pool: Pool):
    aggregate, _ = pooled_gradient(
        model, sent.variables, pool, train.weight, micro_batch_size)
    return aggregate

  def client(message, client_state, data, key):
    sent, control = message

    def with_control(gradient):
      def corrected(variables, batch):
        grads, model_state, metrics = gradient(variables, batch)
        at_server, _, _ = gradient(sent.variables, batch)
        grads = jax.tree.map(
            lambda g, s, c: g - s + c, grads, at_server, control)
        return grads, model_state, metrics
      return corrected

    frozen = local_training(model, _freeze(client_optimizer, sent), **settings)
    local = frozen.run(
        sent.variables, data, key, sent.round, change_gradient=with_control)
    return _output(local, sent, control, train.weight(data), client_state)

  return base._replace(init=init, prepare=prepare, client=client)


def mimelite(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    *,
    weighting: str = 'uniform',
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds MimeLite; arguments as in `mime`, and any model."""
  checks.optimizer('client_optimizer', client_optimizer)
  settings = training | {'weighting': weighting}
  train = local_training(model, client_optimizer, **settings)

  def client(sent: Sent, client_state, data, key):
    frozen = local_training(model, _freeze(client_optimizer, sent), **settings)
    local = frozen.run(sent.variables, data, key, sent.round)
    own, _, _ = train.gradient(
        sent.variables, data, random.named(key, 'full'))
    return _output(local, sent, own, train.weight(data), client_state)

  base = from_client_update(
      client, aggregator=aggregator, local_steps=train.planned_steps)

  def server(state, aggregate, key):
    gradient = trees.divide_rows(aggregate.aux['gradient'], aggregate.weight)
    _, base_state = client_optimizer.update(
        gradient, state.extra, state.variables.params)
    return base.server(state, aggregate, key)._replace(extra=base_state)

  return base._replace(
      init=lambda variables, key, num_clients: base.init(
          variables, key, num_clients)._replace(
              extra=client_optimizer.init(variables.params)),
      broadcast=lambda state: Sent(state.round, state.variables, state.extra),
      server=server)


def _freeze(
    client_optimizer: optax.GradientTransformation, sent: Sent
) -> optax.GradientTransformation:
  """U with the state as it was sent, at every step."""
  def update(grads, state, params):
    updates, _ = client_optimizer.update(grads, sent.base_state, params)
    return updates, state
  return optax.GradientTransformation(lambda params: (), update)


def _output(local, sent, gradient, weight, client_state) -> ClientOutput:
  """The message, with the gradient at the server's model beside it."""
  message = difference(local.variables, sent.variables, weight)
  aux = {'gradient': jax.tree.map(lambda g: weight * g, gradient)}
  return ClientOutput(
      message._replace(aux=aux), client_state, local.metrics)

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

Mime's clients send their gradients first, and are told c_t before they start:
two exchanges in a round. MimeLite's send both together.
"""

from typing import NamedTuple, Unpack

import jax
import optax

from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.algorithms.pooled import pooled_gradient
from fedjax_sim.clients import gradients, rows
from fedjax_sim.clients.local_sgd import difference
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
)
from fedjax_sim.core import optimizer_checks, optimizers, precision, random
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Message,
    Model,
    Phase,
    Pool,
    PyTree,
    ServerState,
    Variables,
)


class Sent(NamedTuple):
  """What the server sends: round (int32 []), model, base optimizer's state."""

  round: jax.Array
  variables: Variables
  base_state: PyTree


class Found(NamedTuple):
  """MimeLite's update: y_k - x_t, and the gradient of F_k at x_t."""

  model: Variables
  gradient: PyTree


@takes_training(
    never_restricted="the server's optimizer state is of the whole model")
def mime(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    *,
    weighting: str = 'uniform',
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds Mime.

  Args:
    model: what is trained. One with model state raises a ValueError when it is
      initialized: gradients of pooled examples have no statistics.
    client_optimizer: the base optimizer, such as `optax.sgd(0.1,
      momentum=0.9)`; its schedules count rounds.
    weighting: of clients in both means.
    aggregator: as in `fedavg`, of both exchanges.
    **training: as in `fedavg`.

  Raises:
    ValueError: an argument is out of range, or the optimizer is random.
  """
  optimizer_checks.check('client_optimizer', client_optimizer)
  settings = training | {'weighting': weighting}
  train = local_training(model, client_optimizer, **settings)

  def first_client(sent: Sent, client_state, data, key):
    gradient, _, metrics = train.gradient(sent.variables, data, key)
    return ClientOutput(
        Message(gradient, train.weight(data)), client_state, metrics)

  def pooled(sent: Sent, pool: Pool):
    if not rows.are_independent(model, sent.variables, pool.examples):
      return None
    return pooled_gradient(
        model, sent.variables, pool, train.weight,
        training.get('micro_batch_size', gradients.MICRO_BATCH_SIZE))

  def client(heard: tuple[Sent, PyTree], client_state, data, key):
    sent, control = heard

    def with_control(gradient):
      def corrected(variables, batch):
        grads, model_state, metrics = gradient(variables, batch)
        at_server, _, _ = gradient(sent.variables, batch)
        grads = jax.tree.map(
            lambda g, s, c: g - s + c, precision.wide(grads),
            precision.wide(at_server), control)
        return grads, model_state, metrics
      return corrected

    frozen = local_training(model, _freeze(client_optimizer, sent), **settings)
    local = frozen.run(
        sent.variables, data, key, sent.round, change_gradient=with_control)
    message = difference(local.variables, sent.variables, train.weight(data))
    return ClientOutput(message, client_state, local.metrics)

  base = _with_base_state(
      client, client_optimizer, aggregator, train.planned_steps)

  def init(variables: Variables, key, num_clients):
    if jax.tree.leaves(variables.model_state):
      raise ValueError('mime needs a model without model_state, got '
                       f'{sorted(variables.model_state)}; mimelite takes any.')
    return base.init(variables, key, num_clients)

  def server(state, aggregate: Aggregate, key, gradient: Aggregate):
    following = _next_base_state(client_optimizer, state, gradient.mean)
    return base.server(state, aggregate, key)._replace(extra=following)

  return base._replace(
      init=init, phases=(Phase(_send, first_client, pooled),), client=client,
      broadcast=lambda state, gradient: gradient.mean, server=server,
      local_cost=train.cost(gradients=2, passes=1))


@takes_training(
    never_restricted="the server's optimizer state is of the whole model")
def mimelite(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    *,
    weighting: str = 'uniform',
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds MimeLite.

  Args:
    model: what is trained; any.
    client_optimizer: as in `mime`.
    weighting: of clients in both means.
    aggregator: as in `fedavg`. An update is that of the model and the gradient
      together.
    **training: as in `fedavg`.

  Raises:
    ValueError: an argument is out of range, or the optimizer is random.
  """
  optimizer_checks.check('client_optimizer', client_optimizer)
  settings = training | {'weighting': weighting}
  train = local_training(model, client_optimizer, **settings)

  def client(sent: Sent, client_state, data, key):
    frozen = local_training(model, _freeze(client_optimizer, sent), **settings)
    local = frozen.run(sent.variables, data, key, sent.round)
    gradient, _, _ = train.gradient(
        sent.variables, data, random.named(key, 'full'))
    message = difference(local.variables, sent.variables, train.weight(data))
    message = message._replace(update=Found(message.update, gradient))
    return ClientOutput(message, client_state, local.metrics)

  base = _with_base_state(
      client, client_optimizer, aggregator, train.planned_steps)

  def server(state, aggregate: Aggregate, key):
    found: Found = aggregate.mean
    following = _next_base_state(client_optimizer, state, found.gradient)
    aggregate = aggregate._replace(mean=found.model)
    return base.server(state, aggregate, key)._replace(extra=following)

  return base._replace(server=server, local_cost=train.cost(passes=1))


def _with_base_state(
    client, base_optimizer, aggregator, planned_steps
) -> FederatedAlgorithm:
  """FedAvg whose server also keeps and sends the base optimizer's state."""
  return from_client_update(
      client, aggregator=aggregator, local_steps=planned_steps,
      extra=lambda variables, num_clients: _first_base_state(
          base_optimizer, variables))._replace(broadcast=_send)


def _first_base_state(base_optimizer, variables: Variables) -> PyTree:
  state = base_optimizer.init(precision.wide(variables.params))
  if optimizers.random_places(state):
    raise ValueError(
        'client_optimizer must not be random in mime and mimelite, where all '
        'clients take its steps from one state and would all draw the same.')
  return state


def _send(state: ServerState) -> Sent:
  return Sent(state.round, state.variables, state.extra)


def _next_base_state(base_optimizer, state: ServerState, gradient) -> PyTree:
  """V: the base optimizer's state after the gradient at x_t."""
  return optimizers.update(
      base_optimizer, gradient, state.extra, state.variables.params)[1]


def _freeze(
    base_optimizer: optax.GradientTransformation, sent: Sent
) -> optax.GradientTransformation:
  """U with the state as it was sent, at every step."""
  def update(grads, state, params):
    updates, _ = base_optimizer.update(grads, sent.base_state, params)
    return updates, state
  return optax.GradientTransformation(lambda params: (), update)

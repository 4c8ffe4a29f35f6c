"""APFL: each client mixes a personal model with the global one.

    round t, on each client k of the cohort, w_k = w_t, over batches b:
      m = a_k v_k + (1 - a_k) w_k
      w_k <- w_k - eta grad f(w_k; b)
      v_k <- v_k - eta a_k grad f(m; b)
      a_k <- a_k - eta <v_k - w_k, grad f(m; b)>       (if adaptive), in [0, 1]
    server:
      w_{t+1} = w_t + sum_k n_k (w_k - w_t) / sum_k n_k

Clients use a_k v_k + (1 - a_k) w_t. Deng, Kamani, Mahdavi, "Adaptive
Personalized Federated Learning" (2020), algorithm 1, the step of a_k by the
gradient of f(m) in a, section 4. There v_k begins at w_0; here at the model of
the client's first round.
"""

from typing import NamedTuple, Unpack

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.algorithms import personal_models
from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.algorithms.personal_models import PersonalModel
from fedjax_sim.clients.local_sgd import Broadcast, Gradient, difference
from fedjax_sim.clients.local_training import (
    LocalTraining,
    TrainingOptions,
    local_training,
    takes_training,
    whole_work,
)
from fedjax_sim.core import checks, optimizer_checks, precision, specs, trees
from fedjax_sim.core.types import (
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Model,
    PyTree,
    Variables,
)


class Mixture(NamedTuple):
  """A client's state: its personal model, and a_k, float32 []."""

  personal: PersonalModel
  alpha: jax.Array


@specs.traceable('alpha')
@takes_training(never_restricted="a client's mixture is of whole models")
def apfl(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    alpha: float = 0.5,
    adaptive: bool = False,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds APFL.

  Args:
    model: what is trained.
    client_optimizer: as in `fedavg`; w, v and a have one each, all alike.
    server_optimizer: as in `fedavg`.
    alpha: of all clients, in [0, 1]; where adaptive, what they begin with.
    adaptive: whether each client learns its alpha.
    aggregator: as in `fedavg`.
    **training: as in `local_training`, without `proximal`.

  Returns:
    The algorithm. Of the model state (statistics of BatchNorm) a client keeps
    that of its mixture. One that has not taken part is evaluated with what its
    first round would give it, without stragglers and `client_schedule`.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.fraction('alpha', alpha)
  checks.boolean('adaptive', adaptive)
  optimizer_checks.check('client_optimizer', client_optimizer)
  checks.not_given('proximal', training, 'w and v have different centres')
  each = {name: client_optimizer for name in ('w', 'v', 'alpha')}
  of_each = optax.partition(each, {name: name for name in each})
  train = local_training(model, of_each, **training)
  shown = local_training(model, of_each, **whole_work(training))

  def joint(gradient: Gradient) -> Gradient:
    """The gradients of w, v and a on a batch, from that of one model."""
    def joint_gradient(variables: Variables, batch):
      params, states, _ = variables
      w, v = params['w'], params['v']
      a = jnp.clip(params['alpha'], 0, 1) if adaptive else alpha
      grads, w_state, metrics = gradient(Variables(w, states['w']), batch)
      mixed_grads, v_state, _ = gradient(
          Variables(_mix(a, v, w), states['v']), batch)
      mixed_grads = precision.wide(mixed_grads)
      in_alpha = sum(jax.tree.leaves(jax.tree.map(
          lambda v, w, g: jnp.vdot(v - w, g), precision.wide(v),
          precision.wide(w), mixed_grads)))
      grads = {'w': grads, 'alpha': in_alpha.astype(precision.scalar()),
               'v': jax.tree.map(lambda g: (a * g).astype(g.dtype),
                                 mixed_grads)}
      return grads, {'w': w_state, 'v': v_state}, metrics
    return joint_gradient

  def train_both(
      train: LocalTraining, server: Broadcast, state: Mixture, data, key):
    w = server.variables
    v = personal_models.start_of(state.personal, w)
    start = Variables(
        {'w': w.params, 'v': v.params, 'alpha': state.alpha},
        {'w': w.model_state, 'v': v.model_state}, w.frozen)
    local = train.run(start, data, key, server.round, change_gradient=joint)
    params, states, _ = local.variables
    a = jnp.clip(params['alpha'], 0, 1) if adaptive else state.alpha
    personal = personal_models.started(Variables(params['v'], states['v']))
    return local, Variables(params['w'], states['w']), Mixture(personal, a)

  def client(server: Broadcast, state: Mixture, data, key):
    local, variables, state = train_both(
        train, server, state, data, key)
    message = difference(variables, server.variables, train.weight(data))
    return ClientOutput(message, state, local.metrics)

  base = from_client_update(
      client, server_optimizer, aggregator, train.planned_steps)

  def personalize(state, mixture: Mixture, data, key) -> Variables:
    first = train_both(shown, base.broadcast(state), mixture, data, key)[2]
    (personal, _), a = trees.where(mixture.personal.started, mixture, first)
    return Variables(_mix(a, personal.params, state.variables.params),
                     personal.model_state, state.variables.frozen)

  return base._replace(
      client_init=lambda variables: Mixture(
          personal_models.none_yet(variables),
          jnp.asarray(alpha, precision.scalar())),
      personalize=personalize, local_cost=train.cost(gradients=2))


def _mix(alpha, personal: PyTree, shared: PyTree) -> PyTree:
  return jax.tree.map(
      lambda v, w: (
          alpha * precision.wide(v) + (1 - alpha) * precision.wide(w)).astype(
              w.dtype), personal, shared)

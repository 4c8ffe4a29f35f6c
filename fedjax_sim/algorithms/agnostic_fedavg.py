"""AgnosticFedAvg: good on the worst mixture of the domains of examples.

    with lambda_d the weight of domain d, and s_d its share of the examples seen
    so far, round t on each client k of the cohort, from w_t:
      a_d = lambda_d / s_d;  b_k = mean of a_d over the client's examples
      w_k <- local SGD on the loss of each example times a_d / b_k
    server:
      w_{t+1} = w_t + sum_k n_k b_k (w_k - w_t) / sum_k n_k b_k
      lambda_d <- lambda_d exp(gamma F_d) / Z,  F_d domain d's mean loss at w_t

For one full step that is gradient descent on sum_d lambda_d F_d(w), while
lambda climbs it: the minimum over w of the maximum over mixtures. Mohri, Sivek,
Suresh, "Agnostic Federated Learning" (2019), section 4 (there lambda takes
projected gradient steps); by federated averaging, with exponentiated gradients:
Ro, Chen, Mathews, Mohri, Suresh, "Communication-Efficient Agnostic Federated
Averaging" (2021), algorithm 1.
"""

from collections.abc import Callable
from typing import NamedTuple, Unpack

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.aggregation import needs
from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
)
from fedjax_sim.clients.measure import local_metrics
from fedjax_sim.core import checks, local_cost, specs
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Model,
    PyTree,
    ServerState,
    Variables,
)


class Domains(NamedTuple):
  """What the server knows of the D domains.

  Attributes:
    logits: float32 [D], log lambda up to a constant.
    counts: float32 [D], examples seen so far, and one.
  """

  logits: jax.Array
  counts: jax.Array


class AgnosticBroadcast(NamedTuple):
  """The round, the model, and a_d: float32 [D]."""

  round: jax.Array
  variables: Variables
  factors: jax.Array


def domain_field(examples: PyTree) -> jax.Array:
  """The field `domain` of examples."""
  if 'domain' not in examples:
    raise ValueError("domain must be a function of examples that have no field "
                     f'of that name, only {", ".join(sorted(examples))}.')
  return examples['domain']


@specs.traceable('domain_lr')
@takes_training
def agnostic_fedavg(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    num_domains: int,
    domain_lr: float,
    domain: Callable[[PyTree], jax.Array] = domain_field,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds AgnosticFedAvg.

  Args:
    model: what is trained.
    client_optimizer: as in `fedavg`.
    server_optimizer: as in `fedavg`.
    num_domains: D.
    domain_lr: the rate gamma of the domains' weights; 0 leaves them equal.
    domain: `(examples [B, ...]) -> int32 [B]` in [0, D): by default a field
      `domain` of the examples beside x and y. Where that is the client's
      number, clients are the domains, as in the paper of 2019.
    aggregator: as in `fedavg`, with a mean by weights, which are n_k b_k.
    **training: as in `local_training`.

  Returns:
    The algorithm. Its `train/loss` is the plain loss at the round's start. A
    domain that nobody of a cohort has is taken to have the mean loss of the
    others, so that it keeps its weight.

  Raises:
    ValueError: an argument is out of range, or the aggregator leaves out
      weights; when run, that the examples have
      no field `domain`.
  """
  needs.check('agnostic_fedavg', aggregator, needs.Need.WEIGHTS)
  checks.positive_int('num_domains', num_domains)
  checks.non_negative('domain_lr', domain_lr)
  planned = local_training(model, client_optimizer, **training)
  probe = model._replace(
      metrics=lambda outputs, examples, mask: _by_domain(
          *model.example_losses(outputs, examples, mask), domain(examples),
          num_domains))

  def client(server: AgnosticBroadcast, client_state, data, key):
    sums = local_metrics(probe, server.variables, data)
    losses, counts = (jnp.stack([sums[f'domain {d}'][i]
                                 for d in range(num_domains)]) for i in (0, 1))
    mean = jnp.vdot(server.factors, counts) / jnp.maximum(counts.sum(), 1)
    scale = server.factors / jnp.where(mean > 0, mean, 1)
    weighted = model.weighted(lambda examples: scale[domain(examples)])
    train = local_training(weighted, client_optimizer, **training)
    local = train.run(server.variables, data, key, server.round)
    message = train.message(local, server.variables, data)
    message = message._replace(
        weight=message.weight * mean,
        sums={'losses': losses, 'counts': counts})
    return ClientOutput(message, client_state, {'loss': sums['loss']})

  base = from_client_update(
      client, server_optimizer, aggregator, planned.planned_steps,
      extra=lambda variables, num_clients: Domains(
          jnp.zeros(num_domains), jnp.ones(num_domains)))

  def broadcast(state: ServerState) -> AgnosticBroadcast:
    logits, counts = state.extra
    factors = jax.nn.softmax(logits) * counts.sum() / counts
    return AgnosticBroadcast(state.round, state.variables, factors)

  def server(state: ServerState, aggregate: Aggregate, key) -> ServerState:
    losses, counts = aggregate.sums['losses'], aggregate.sums['counts']
    seen = counts > 0
    means = losses / jnp.where(seen, counts, 1)
    weights = jnp.where(seen, jax.nn.softmax(state.extra.logits), 0)
    total = jnp.where(weights.sum() > 0, weights.sum(), 1)
    means = jnp.where(seen, means, jnp.vdot(weights, means) / total)
    domains = Domains(
        jax.nn.log_softmax(state.extra.logits + domain_lr * means),
        state.extra.counts + counts)
    return base.server(state, aggregate, key)._replace(extra=domains)

  return base._replace(
      broadcast=broadcast, server=server,
      local_cost=planned.cost(passes=local_cost.FORWARD))


def _by_domain(losses, real, domains, num_domains):
  """MetricSums of each domain: (losses or 0, 1 or 0), float32 [B]."""
  inside = lambda d: ((domains == d) & real).astype(losses.dtype)
  return {f'domain {d}': (losses * inside(d), inside(d))
          for d in range(num_domains)}

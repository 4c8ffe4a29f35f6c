"""FedAsync: each report is mixed into the model at once.

    client k, from the version x_s that it was sent:
      x_new <- local steps on F_k(x) + rho / 2 |x - x_s|^2 from x_s
    server, with every report, its lag being t - s:
      a_t = alpha s(t - s)
      x_{t+1} = (1 - a_t) x_t + a_t x_new

Xie, Koyejo, Gupta, "Asynchronous Federated Optimization" (2019), algorithm 1,
where s(lag) is written s(t - tau). There x_new travels; here the client
sends x_new - x_s, from which the server, which knows x_s, has x_new: so what
compresses updates can be used.
"""

from typing import Unpack

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.aggregation import needs
from fedjax_sim.aggregation.staleness import Staleness, polynomial
from fedjax_sim.algorithms.fedavg import fedavg
from fedjax_sim.clients.local_training import TrainingOptions, takes_training
from fedjax_sim.core import checks, precision, specs
from fedjax_sim.core.asynchrony import Asynchronous
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    FederatedAlgorithm,
    Model,
    ServerState,
    Variables,
)


@specs.traceable('alpha', 'rho')
@takes_training
def fedasync(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    *,
    alpha: float = 0.6,
    rho: float = 0.0,
    staleness: Staleness | None = None,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds FedAsync; `clients_per_round` must be 1.

  Args:
    model: what is trained.
    client_optimizer: for the local steps.
    alpha: how much of a client's model that is not late is taken, in (0, 1].
    rho: the weight of the proximal term, at least 0.
    staleness: how much a report counts by its lag; None is `polynomial(0.5)`.
    aggregator: as in `fedavg`, without `ef21`: a client's model is mixed in.
    **training: as in `fedavg`, without `proximal`.

  Raises:
    ValueError: an argument is out of range, or the aggregator does not fit.
  """
  needs.check('fedasync', aggregator, needs.Need.COHORT)
  checks.share('alpha', alpha)
  checks.non_negative('rho', rho)
  checks.not_given('proximal', training, 'rho is its weight')
  staleness = polynomial(0.5) if staleness is None else staleness
  checks.instance('staleness', staleness, Staleness, 'polynomial(0.5)')
  base = fedavg(model, client_optimizer, aggregator=aggregator, proximal=rho,
                **training)

  def server(state: ServerState, aggregate: Aggregate, key) -> ServerState:
    del key
    began, lag = state.variables, 0
    if aggregate.origin is not None:
      began, lag = aggregate.origin.sent.variables, aggregate.origin.lag
    share = alpha * staleness.factor(lag)
    share = jnp.where(aggregate.count > 0, share, 0)
    return state._replace(variables=_mixed(
        state.variables, began, aggregate.mean, share))

  return base._replace(server=server, asynchronous=Asynchronous(
      'fedasync', reports=1, asks_origin=True))


def _mixed(
    old: Variables, began: Variables, update: Variables, share: jax.Array
) -> Variables:
  """(1 - share) old + share (began + update)."""
  def mix(x, start, change):
    new = precision.wide(start) + precision.wide(change)
    return precision.narrow(
        (1 - share) * precision.wide(x) + share * new, x)
  return Variables(
      jax.tree.map(mix, old.params, began.params, update.params),
      jax.tree.map(mix, old.model_state, began.model_state,
                   update.model_state), old.frozen)

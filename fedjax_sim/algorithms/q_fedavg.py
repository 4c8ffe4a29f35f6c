"""q-FedAvg: clients with a large loss weigh more, for a fairer model.

    round t, on each client k of the cohort, from w_t, with L = 1 / eta:
      F_k = mean loss of w_t over the local data
      w_k <- local SGD at rate eta;  delta_k = w_k - w_t
    server, with p_k = n_k (or 1):
      W = sum_k p_k F_k^q
      H = L W + q L^2 sum_k p_k F_k^(q-1) |delta_k|^2
      w_{t+1} = w_t + (L W / H) * sum_k p_k F_k^q delta_k / W

It minimizes sum_k p_k F_k^(q+1) / (q+1): q = 0 is FedAvg, a large q the largest
loss alone. H bounds that objective's curvature, so no new rate has to be tuned
for each q. Li, Sanjabi, Beirami, Smith, "Fair Resource Allocation in Federated
Learning" (2020), algorithm 2. There clients are drawn with probability p_k and
summed plainly; here they are drawn uniformly and weighed, to the same mean.
"""

from typing import Unpack

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.aggregation import needs
from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients.local_sgd import Broadcast
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
)
from fedjax_sim.clients.measure import local_loss
from fedjax_sim.core import checks, local_cost, precision, specs
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Model,
    ServerState,
)

# Added to a loss, whose power may be negative.
_EPSILON = 1e-10


@specs.traceable('q')
@takes_training
def q_fedavg(
    model: Model,
    client_lr: float,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    q: float,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds q-FedAvg.

  Args:
    model: what is trained; its losses are at least 0.
    client_lr: the rate eta of the clients' plain SGD, whose inverse is L; in a
      round with a schedule's factor, times that.
    server_optimizer: takes minus the step above; None is `optax.sgd(1.0)`.
    q: at least 0; how much more a larger loss weighs.
    aggregator: as in `fedavg`, with a mean by weights. It sees delta_k with
      weight p_k F_k^q.
    **training: as in `local_training`; `weighting` says what p_k is.

  Raises:
    ValueError: an argument is out of range, or the aggregator leaves out
      weights.
  """
  needs.check('q_fedavg', aggregator, needs.Need.WEIGHTS)
  checks.rate('client_lr', client_lr)
  checks.non_negative('q', q)
  train = local_training(model, optax.sgd(client_lr), **training)

  def client(server: Broadcast, client_state, data, key):
    local = train.run(server.variables, data, key, server.round)
    loss = local_loss(model, server.variables, data) + _EPSILON
    weight = train.weight(data)
    message = train.message(local, server.variables, data)
    square = sum(jnp.sum(jnp.square(x))
                 for x in jax.tree.leaves(
                     precision.wide(message.update.params)))
    rate = client_lr * train.step_scale(server.round)
    curvature = precision.over_rate(
        weight * q * loss ** (q - 1) * square, rate)
    message = message._replace(
        weight=weight * loss ** q, sums={'curvature': curvature})
    return ClientOutput(message, client_state, local.metrics)

  base = from_client_update(
      client, server_optimizer, aggregator, train.planned_steps)

  def server(state: ServerState, aggregate: Aggregate, key) -> ServerState:
    weight = aggregate.weight
    bound = weight + aggregate.sums['curvature']  # H / L
    damping = jnp.where(weight > 0, weight / jnp.where(weight > 0, bound, 1), 0)
    params = jax.tree.map(
        lambda x: (damping * x).astype(x.dtype), aggregate.mean.params)
    mean = aggregate.mean._replace(params=params)
    return base.server(state, aggregate._replace(mean=mean), key)

  return base._replace(
      server=server, local_cost=train.cost(passes=local_cost.FORWARD))

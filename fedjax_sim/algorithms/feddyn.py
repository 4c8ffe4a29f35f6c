"""FedDyn: local problems bent so that their minima agree at the optimum.

    round t, on each client k of the cohort S_t, from x_t:
      y_k <- local steps on F_k(y) - <g_k, y> + alpha / 2 |y - x_t|^2
      g_k <- g_k - alpha (y_k - x_t)
    server, over all N clients:
      h_{t+1} = h_t - alpha / N sum_{k in S_t} (y_k - x_t)
      x_{t+1} = mean_k y_k - h_{t+1} / alpha

Acar, Zhao, Matas Navarro, Mattina, Whatmough, Saligrama, "Federated Learning
Based on Dynamic Regularization" (2021), algorithm 1. g_k stands for the
gradient of F_k at y_k, which it is where the local problem is solved, and h for
the mean of all g_k, which it is always, since aggregators that lose something
for good are refused. So where rounds change nothing, all y_k
are x, g_k = grad F_k(x) and h = 0: x is a stationary point of the mean of F_k,
however few the local steps.

Its means are plain ones; `weighting='examples'` weighs both, which makes it
solve the problem in which a client counts by its examples.
"""

from typing import Unpack

import jax
import optax
from jax import numpy as jnp

from fedjax_sim.algorithms import tracked
from fedjax_sim.algorithms.fedavg import from_client_update
from fedjax_sim.clients.local_sgd import Broadcast, difference
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
)
from fedjax_sim.core import checks, precision, specs
from fedjax_sim.core.types import (
    Aggregate,
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Model,
)


@specs.traceable('alpha')
@takes_training(
    never_restricted='the gradient that a client keeps is of the whole model')
def feddyn(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    alpha: float,
    weighting: str = 'uniform',
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds FedDyn.

  Args:
    model: what is trained.
    client_optimizer: for the local steps.
    server_optimizer: takes minus the step from x_t to x_{t+1}; None is the
      paper's, `optax.sgd(1.0)`.
    alpha: the weight of the regularization, > 0; theirs are 0.1, 0.01, 0.001.
    weighting: of clients in both means.
    aggregator: as in `fedavg`; it must lose nothing for good, see `tracked`.
      The server makes h of the mean update.
    **training: as in `fedavg`, without `proximal`.

  Returns:
    The algorithm. A client's state has the size of the model.

  Raises:
    ValueError: an argument is out of range, or the aggregator does not fit.
  """
  tracked.check('feddyn', aggregator, weighting)
  checks.positive('alpha', alpha)
  checks.not_given('proximal', training, 'alpha is its weight')
  train = local_training(model, client_optimizer, weighting=weighting,
                         **training | {'proximal': alpha})

  def client(server: Broadcast, kept: tracked.Kept, data, key):
    local = train.run(
        server.variables, data, key, server.round,
        correct=lambda grads, params: jax.tree.map(
            jnp.subtract, grads, kept.value))
    weight = train.weight(data)
    message = difference(local.variables, server.variables, weight)
    gradient = jax.tree.map(lambda g, d: (g - alpha * d).astype(g.dtype),
                            kept.value, precision.wide(message.update.params))
    kept, sums = tracked.keep_new(kept, gradient, weight)
    return ClientOutput(message._replace(sums=sums), kept, local.metrics)

  base = from_client_update(
      client, server_optimizer, aggregator, train.planned_steps,
      extra=lambda variables, num_clients: tracked.track(
          variables.params, num_clients))

  def server(state, aggregate: Aggregate, key):
    # g_k changes by -alpha (y_k - x_t), whose mean the server has.
    change = jax.tree.map(lambda d: (-alpha * d).astype(d.dtype),
                          aggregate.mean.params)
    gradients = tracked.update(state.extra, change, aggregate)
    params = jax.tree.map(lambda d, h: (d - h / alpha).astype(d.dtype),
                          aggregate.mean.params, tracked.mean(gradients))
    mean = aggregate.mean._replace(params=params)
    return base.server(state, aggregate._replace(mean=mean), key)._replace(
        extra=gradients)

  return base._replace(
      client_init=lambda variables: tracked.keep(variables.params),
      server=server)

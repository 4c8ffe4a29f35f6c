"""FedBuff: a step of the server with every K reports, however old their models.

    client k, from the version x_s that it was sent:
      y_k <- local steps on F_k from x_s;   delta_k = y_k - x_s
    server, after K reports since x_t, the lag of each being t - s:
      x_{t+1} = server_optimizer step on -(1 / K) sum_k s(t - s_k) delta_k

Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek, Huba, "Federated Learning with
Buffered Asynchronous Aggregation" (2022), algorithm 1, with its staleness
s(lag) = 1 / sqrt(1 + lag). With `weighting='examples'` the step is along
sum_k n_k s(lag_k) delta_k / sum_k n_k. If no report is late, it is FedAvg of
the same weighting.

Who begins when, and which reports make a step, is the timeline's business:
`reporting = 'asynchronous(concurrency=100)'`.
"""

from typing import Unpack

import optax

from fedjax_sim import aggregation
from fedjax_sim.aggregation import kinds
from fedjax_sim.aggregation.staleness import Staleness, discounted, polynomial
from fedjax_sim.algorithms.fedavg import fedavg
from fedjax_sim.clients.local_training import TrainingOptions, takes_training
from fedjax_sim.core import checks
from fedjax_sim.core.asynchrony import Asynchronous
from fedjax_sim.core.types import Aggregator, FederatedAlgorithm, Model


@takes_training
def fedbuff(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    staleness: Staleness | None = None,
    weighting: str = 'uniform',
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds FedBuff; K is `clients_per_round`.

  Args:
    model: what is trained.
    client_optimizer: for the local steps.
    server_optimizer: as in `fedavg`; the paper's is SGD with rate eta_g.
    staleness: how much a report counts by its lag; None is `polynomial(0.5)`.
    weighting: of clients in the mean, before the discount.
    aggregator: as in `fedavg`. The server discounts messages as they come.
    **training: as in `fedavg`.

  Raises:
    ValueError: an argument is out of range.
  """
  staleness = polynomial(0.5) if staleness is None else staleness
  checks.instance('staleness', staleness, Staleness, 'polynomial(0.5)')
  if aggregator is None:
    aggregator = aggregation.aggregator()
  kinds.check('aggregator', aggregator, Aggregator,
              'a whole aggregator, such as aggregator(clip(1.0))')
  base = fedavg(model, client_optimizer, server_optimizer,
                aggregator=discounted(aggregator, staleness),
                weighting=weighting, **training)
  return base._replace(asynchronous=Asynchronous('fedbuff'))

"""FedProx: FedAvg whose clients are held near the server's model.

    round t, on each client k of the cohort S_t, from w_t:
      w_k <- local steps on F_k(w) + mu / 2 |w - w_t|^2
    server: as in FedAvg.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated Optimization in
Heterogeneous Networks" (2020), algorithm 2. There the cohort is drawn with
probabilities n_k / n and its models are averaged alike; here it is drawn
uniformly and weighed by n_k, as in the rest of the package. Stragglers that
send what they got done (section 5.2) are `stragglers=`.
"""

from typing import Unpack

import optax

from fedjax_sim.algorithms.fedavg import fedavg
from fedjax_sim.clients.local_training import TrainingOptions, takes_training
from fedjax_sim.core import checks, specs
from fedjax_sim.core.types import Aggregator, FederatedAlgorithm, Model


@specs.traceable('mu')
@takes_training
def fedprox(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    mu: float,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds FedProx; with mu = 0 it is FedAvg.

  Args:
    model: what is trained.
    client_optimizer: for the local steps; it sees the proximal term as a part
      of the gradient.
    server_optimizer: as in `fedavg`.
    mu: the weight of the proximal term, >= 0.
    aggregator: as in `fedavg`.
    **training: as in `fedavg`, without `proximal`.

  Raises:
    ValueError: an argument is out of range.
  """
  checks.non_negative('mu', mu)
  checks.not_given('proximal', training, 'mu is its weight')
  return fedavg(model, client_optimizer, server_optimizer,
                aggregator=aggregator, proximal=mu, **training)

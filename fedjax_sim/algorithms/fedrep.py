"""FedRep: each client fits its head to the shared body, then moves the body.

    with w the body and h_k client k's head, round t on each client:
      h_k <- head epochs of SGD on h_k, with w_t fixed
      w_k <- epochs of SGD on w from w_t, with h_k fixed
    server:
      w_{t+1} = w_t + sum_k n_k (w_k - w_t) / sum_k n_k

Collins, Hassani, Mokhtari, Shakkottai, "Exploiting Shared Representations for
Personalized Federated Learning" (2021), algorithm 1.
"""

from typing import Unpack

import jax
import optax

from fedjax_sim.algorithms.parts import (
    Parts,
    Select,
    by_path,
    from_parts,
    join,
)
from fedjax_sim.clients.local_sgd import Broadcast, difference
from fedjax_sim.clients.local_training import (
    TrainingOptions,
    local_training,
    takes_training,
    whole_work,
)
from fedjax_sim.core import checks, optimizer_checks, random, trees
from fedjax_sim.core.types import (
    Aggregator,
    ClientOutput,
    FederatedAlgorithm,
    Model,
    Variables,
)


@takes_training(never_restricted='a part of the model stays with the client')
def fedrep(
    model: Model,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    *,
    personal: Select,
    head_epochs: float = 10,
    aggregator: Aggregator | None = None,
    **training: Unpack[TrainingOptions],
) -> FederatedAlgorithm:
  """Builds FedRep.

  Args:
    model: what is trained.
    client_optimizer: as in `fedavg`, of head and body, each on its own.
    server_optimizer: as in `fedavg`, of the body.
    personal: which arrays are the head's, as in `fedper`.
    head_epochs: of training on the head; the paper's experiments have 10.
    aggregator: as in `fedavg`; only the body is in the messages.
    **training: as in `local_training`, of the body; of the head all but how
      long.

  Returns:
    The algorithm. A client is evaluated with a head that is `head_epochs` from
    the one it has, on the present body, without stragglers and
    `client_schedule`. So a client that has not taken part gets one too. The
    global model has the initial head, hence its test metrics tell little.

  Raises:
    ValueError: an argument is out of range; when run, that `personal` chooses
      none or all of the parameters.
  """
  checks.positive('head_epochs', head_epochs)
  parts = by_path(personal)
  body = local_training(model, _only(parts, False, client_optimizer),
                        **training)
  head = local_training(
      model, _only(parts, True, client_optimizer),
      **training | {'epochs': head_epochs, 'steps': None})

  shown_head = local_training(
      model, _only(parts, True, client_optimizer),
      **whole_work(training, epochs=head_epochs, steps=None))

  def client(server: Broadcast, head_part, data, key):
    fitted = head.run(join(head_part, server.variables), data,
                      random.named(key, 'head'), server.round)
    local = body.run(fitted.variables, data, key, server.round)
    message = difference(
        parts.shared(local.variables), server.variables, body.weight(data))
    return ClientOutput(message, parts.personal(local.variables),
                        trees.add(fitted.metrics, local.metrics))

  def personalize(state, head_part, data, key) -> Variables:
    return shown_head.run(join(head_part, state.variables), data,
                          random.named(key, 'head'), state.round).variables

  return from_parts(
      parts, client, server_optimizer, aggregator,
      lambda sizes: head.planned_steps(sizes) + body.planned_steps(sizes),
  )._replace(personalize=personalize)


def _only(
    parts: Parts, personal: bool, optimizer: optax.GradientTransformation
) -> optax.GradientTransformation:
  """An optimizer of one part that leaves the other as it is."""
  optimizer_checks.check('client_optimizer', optimizer)
  labels = lambda params: jax.tree.map(
      lambda is_personal: is_personal == personal,
      parts.mask(Variables(params, {})).params)
  return optax.partition({True: optimizer, False: optax.set_to_zero()}, labels)

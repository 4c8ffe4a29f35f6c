"""`federated_dropout`: clients train a smaller model, of some hidden units.

    in every hidden layer, fraction * units stay, drawn without replacement in
    each round; S the entries of w that belong to them
    each client: trains and sends w[S], a model of smaller dense layers
    server, for each entry i:
      w_{t+1}[i] = w_t[i] + sum_k n_k H_k[i] / sum_k n_k
                   over the clients k whose submodel has i; none, no change

Caldas, Konečný, McMahan, Talwalkar, "Expanding the Reach of Federated Learning
by Reducing Client Resource Requirements" (2018), section 3.2: units of dense
layers and filters of convolutions, not inputs and outputs. The number that
stays is the same for all, so all submodels have one architecture. Nothing is
scaled to make up for the units that are not there.
"""

from fedjax_sim.clients.restrictions import submodels
from fedjax_sim.clients.restrictions.restriction import Restriction
from fedjax_sim.core import checks


def federated_dropout(
    fraction: float, per_client: bool = False
) -> Restriction:
  """Gives clients, and trains, a submodel of some of the hidden units.

  The model must say which they are (`Model.hidden`), as `mnist_2nn`,
  `mnist_cnn` and `cifar_cnn` do. Clients receive, compute and send smaller
  arrays. What the paper calls a dropout rate of 25% is fraction 0.75.

  Args:
    fraction: of each hidden layer's units that stays, in (0, 1]:
      round(fraction * units), which must not be 0.
    per_client: whether each client gets a submodel of its own; else the whole
      cohort of a round gets the same one.

  Raises:
    ValueError: an argument is out of range; of the algorithm that is built
      with it, see `submodels.submodel` and `submodels.with_submodels`.
  """
  checks.share('fraction', fraction)
  checks.boolean('per_client', per_client)
  name = f'federated_dropout({fraction})'
  return Restriction(
      name, submodel=lambda model: submodels.submodel(
          name, model, fraction, per_client))

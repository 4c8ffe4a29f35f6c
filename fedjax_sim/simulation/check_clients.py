"""Whether clients' own test examples fit the model and the federation."""

from fedjax_sim.core import checks
from fedjax_sim.core.types import Model
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation import check_examples
from fedjax_sim.simulation.client_evaluation import same_clients


def check_clients(
    model: Model, train: FederatedData, client_test: FederatedData | None
) -> None:
  """Checks `client_test` before any round, rather than when it is evaluated.

  Args:
    model: the model.
    train: the federation, known to fit the model.
    client_test: test examples of the same clients; None for none.

  Raises:
    ValueError: it is no federation, holds other clients or no example, or does
      not fit the model or its loss; see `check_examples.check_examples`.
  """
  if client_test is None:
    return
  checks.instance('client_test', client_test, FederatedData,
                  'data.from_clients(...) or data.federate(...)')
  if not client_test.num_examples:
    raise ValueError(
        'client_test must have at least one example, no client has any.')
  same_clients(train, client_test, 'client_test')
  check_examples.check_clients(model, train, client_test)

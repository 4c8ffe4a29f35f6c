"""Evaluation: on a test set, every example once, and client by client."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.clients.measure import batch_metrics, finished
from fedjax_sim.core import argument_kinds, checks, reuse
from fedjax_sim.core.types import (
    FederatedAlgorithm,
    MetricSums,
    Model,
    PyTree,
    Variables,
)
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.models import output_check
from fedjax_sim.simulation import check_examples
from fedjax_sim.simulation.client_evaluation import (
    ClientMetrics,
    client_evaluator,
)
from fedjax_sim.simulation.rounds import Evaluate, SimulationState


class EvalData(NamedTuple):
  """A test set in batches.

  Attributes:
    examples: PyTree [batches, B, ...]; the end of the last batch is filled
      with copies of the first example.
    mask: bool [batches, B], False on what was filled in.
  """

  examples: PyTree
  mask: np.ndarray


def in_batches(examples: PyTree, batch_size: int = 1000) -> EvalData:
  """Cuts examples [E, ...] (NumPy) into batches (NumPy)."""
  checks.positive_int('eval_batch_size', batch_size)
  size = len(jax.tree.leaves(examples)[0])
  if size == 0:
    raise ValueError('a test set must have at least one example, got 0.')
  batch_size = min(batch_size, size)
  index = np.arange(-(-size // batch_size) * batch_size)
  mask = (index < size).reshape(-1, batch_size)
  index = np.where(index < size, index, 0).reshape(-1, batch_size)
  return EvalData(jax.tree.map(lambda x: x[index], examples), mask)


def some_of(examples: PyTree | None, number: int) -> PyTree | None:
  """Examples drawn from [E, ...] (NumPy), in their order; 0 for all.

  The draw is the same for all runs, so that their curves can be compared. Of
  None, no examples, it is None.

  Raises:
    ValueError: there are fewer.
  """
  if examples is None:
    if number:
      raise ValueError('test_examples must be 0, the data set has no test '
                       f'examples, got {number}.')
    return None
  size = len(jax.tree.leaves(examples)[0])
  if number > size:
    raise ValueError(f'test_examples must be at most {size}, the number of '
                     f'test examples, or 0 for all, got {number}.')
  if not number:
    return examples
  chosen = np.random.default_rng(0).choice(size, number, replace=False)
  return jax.tree.map(lambda x: x[np.sort(chosen)], examples)


def fill_up(data: EvalData, multiple: int) -> EvalData:
  """Adds masked batches up to a multiple, for as many devices."""
  extra = -len(data.mask) % multiple
  copies = jax.tree.map(lambda x: np.repeat(x[:1], extra, axis=0), data)
  copies = copies._replace(mask=np.zeros_like(copies.mask))
  return jax.tree.map(lambda a, b: np.concatenate([a, b]), data, copies)


def evaluator(model: Model) -> Callable[[Variables, EvalData], MetricSums]:
  """What sums up a model's metrics over a set; `measure.finished` ends it."""
  # Inlined; so it is traced once, and not again where shapes are asked for.
  of_batch = jax.jit(
      lambda variables, batch: batch_metrics(model, variables, *batch),
      inline=True)

  def evaluate(variables: Variables, data: EvalData) -> MetricSums:
    def step(totals, batch):
      return jax.tree.map(jnp.add, totals, of_batch(variables, batch)), None

    first = jax.tree.map(lambda x: x[0], data)
    shapes = jax.eval_shape(of_batch, variables, first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(step, zeros, data)[0]

  return evaluate


@reuse.reused(size=16)
def of_sets(model: Model) -> Evaluate:
  """What the engine runs inside its rounds: `{'test': EvalData, …}`."""
  one = evaluator(model)
  return Evaluate(
      lambda variables, sets: {
          name: one(variables, data) for name, data in sets.items()},
      lambda totals: {
          name: finished(model, sums) for name, sums in totals.items()})


def report(sums: MetricSums) -> dict[str, float]:
  """Means of (sum, count) pairs, as Python floats; NaN where count is 0."""
  values = {}
  for name, (total, count) in sums.items():
    count = float(count)
    values[name] = float(total) / count if count else float('nan')
  return values


def evaluate(
    model: Model, variables: Variables, examples: PyTree,
    batch_size: int = 1000,
) -> dict[str, float]:
  """Mean loss and metrics over examples [E, ...], each counted once.

  Args:
    model: the model.
    variables: its variables.
    examples: a dict of arrays, a pair (x, y), or a federation.
    batch_size: examples at once.

  Raises:
    ValueError: the examples don't fit the model, or its loss.
  """
  examples = check_examples.as_set('examples', examples)
  check_examples.check_set(model, variables, 'examples', examples)
  output_check.check_functions(model, variables, examples)
  data = in_batches(examples, batch_size)
  sums = jax.jit(lambda variables, data: finished(
      model, evaluator(model)(variables, data)))(variables, data)
  return report(jax.device_get(sums))


@argument_kinds.checked
def evaluate_clients(
    model: Model,
    algorithm: FederatedAlgorithm,
    state: SimulationState,
    train: FederatedData,
    test: FederatedData,
    *,
    key: jax.Array,
    clients: Sequence[int] | None = None,
    new_clients: bool = False,
    lanes: int = 10,
    batch_size: int = 100,
) -> ClientMetrics:
  """Evaluates each client on its own test data.

  A client is evaluated with what the algorithm's `personalize` gives it from
  its own state and training data; for FedAvg that is the global model.

  Args:
    model: the model.
    algorithm: the algorithm that `state` belongs to.
    state: after any number of rounds.
    train: the federation that was trained on, N clients; or some of its
      clients, which `clients` names; or what other clients have to personalize
      with.
    test: the same clients' test data, in any order: clients are told by their
      ids. One may have no examples.
    key: for a `personalize` that draws.
    clients: int [N], which clients of the federation that was trained on these
      are, whose states they have; None if it is the same.
    new_clients: whether `train` is of clients that the state knows nothing of.
      They are taken to join now: with the state that `client_init` makes of
      the present global model.
    lanes: clients computed side by side.
    batch_size: examples of a client at once.

  Raises:
    ValueError: `train`, `test` and the state do not hold the same clients.

  Returns:
    The metrics of the clients of `train`, in its order.
  """
  measure = client_evaluator(
      model, algorithm, train, test, key=key, new_clients=new_clients,
      lanes=lanes, batch_size=batch_size)
  for name, data in (('train', train), ('test', test)):
    check_examples.check_set(
        model, algorithm.evaluated(state.server), name, data)
  return measure(state, clients)


def before_and_after(
    model: Model, algorithm: FederatedAlgorithm, *args, **options
) -> tuple[ClientMetrics, ClientMetrics]:
  """What personalization gives each client, in terms of its own test data.

  Args:
    model: the model.
    algorithm: the algorithm.
    *args: as in `evaluate_clients`, like `options`.
    **options: `new_clients` tells what clients that join now get.

  Returns:
    (metrics of the one global model, metrics of what `personalize` gives).
  """
  general = algorithm._replace(
      personalize=lambda state, own, data, key: algorithm.evaluated(state))
  return tuple(evaluate_clients(model, one, *args, **options)
               for one in (general, algorithm))

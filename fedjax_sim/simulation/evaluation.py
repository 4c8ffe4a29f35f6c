"""Evaluation: on a test set, every example once, and client by client."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.clients.measure import batch_metrics, local_metrics
from fedjax_sim.core import checks, random
from fedjax_sim.core.types import (
  ClientData,
  FederatedAlgorithm,
  MetricSums,
  Model,
  PyTree,
  Variables,
)
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation.placement import client_states
from fedjax_sim.simulation.rounds import SimulationState


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
  """The function that the engine runs inside its rounds."""

  def evaluate(variables: Variables, data: EvalData) -> MetricSums:
    def step(totals, batch):
      metrics = batch_metrics(model, variables, *batch)
      return jax.tree.map(jnp.add, totals, metrics), None

    first = jax.tree.map(lambda x: x[0], data)
    shapes = jax.eval_shape(
        lambda v, b: batch_metrics(model, v, *b), variables, first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(step, zeros, data)[0]

  return evaluate


def of_sets(model: Model) -> Callable[[Variables, PyTree], dict]:
  """`evaluator` for several sets: `{'test': EvalData, …}`."""
  one = evaluator(model)
  return lambda variables, sets: {
      name: one(variables, data) for name, data in sets.items()}


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
  """Mean loss and metrics over examples [E, ...], each counted once."""
  sums = jax.jit(evaluator(model))(variables, in_batches(examples, batch_size))
  return report(jax.device_get(sums))


class ClientMetrics(NamedTuple):
  """Metrics of every client of a federation.

  Attributes:
    values: name -> float64 [N], a client's mean; NaN for one without data.
    num_examples: int [N].
  """

  values: dict[str, np.ndarray]
  num_examples: np.ndarray

  def summary(self) -> dict[str, float]:
    """Over clients with data: mean, 10th, 50th, 90th percentile, worst.

    The mean is over clients, each counting the same; the worst is the largest
    loss, and the smallest value of every other metric.
    """
    result = {}
    for name, values in self.values.items():
      values = values[self.num_examples > 0]
      worst = np.max(values) if name == 'loss' else np.min(values)
      low, median, high = np.percentile(values, [10, 50, 90])
      result |= {
          f'{name}/mean': float(np.mean(values)), f'{name}/p10': float(low),
          f'{name}/p50': float(median), f'{name}/p90': float(high),
          f'{name}/worst': float(worst)}
    return result


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
    test: the same N clients' test data; a client may have none.
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
  """
  return client_evaluator(
      model, algorithm, train, test, key=key, new_clients=new_clients,
      lanes=lanes, batch_size=batch_size)(state, clients)


def client_evaluator(
    model: Model,
    algorithm: FederatedAlgorithm,
    train: FederatedData,
    test: FederatedData,
    *,
    key: jax.Array,
    new_clients: bool = False,
    lanes: int = 10,
    batch_size: int = 100,
) -> Callable[..., ClientMetrics]:
  """`(state, clients=None) -> ClientMetrics`, for many states of one run.

  It is compiled once. The arguments are those of `evaluate_clients`.
  """
  if train.num_clients != test.num_clients:
    raise ValueError(
        'train and test must hold the same clients, got '
        f'{train.num_clients} and {test.num_clients}.')
  device = lambda data: (jax.tree.map(jnp.asarray, data.examples),
                         jnp.asarray(data.offsets, jnp.int32))

  @jax.jit
  def run(server, places, states, train_arrays, test_arrays):
    def one_client(args):
      client, client_state = args
      data_of = lambda arrays, data: ClientData(
          arrays[0], arrays[1][client],
          arrays[1][client + 1] - arrays[1][client], data.max_size, True)
      variables = algorithm.personalize(
          server, client_state, data_of(train_arrays, train),
          random.client_key(key, client, jnp.int32(0)))
      return local_metrics(
          model, variables, data_of(test_arrays, test), batch_size)

    if new_clients:
      initial = algorithm.client_init(algorithm.evaluated(server))
      return jax.lax.map(lambda client: one_client((client, initial)),
                         places, batch_size=lanes)
    return jax.lax.map(one_client, (places, states), batch_size=lanes)

  arrays = device(train), device(test)

  def evaluate_now(
      state: SimulationState, clients: Sequence[int] | None = None
  ) -> ClientMetrics:
    states = client_states.DeviceStates((), ())
    numbers = np.arange(train.num_clients)
    if not new_clients:
      states = client_states.of(state)
      numbers = _numbers(states, train.num_clients, clients)
    parts = [jax.device_get(run(state.server, *block, *arrays))
             for block in _blocks(states, numbers)]
    sums = jax.tree.map(
        lambda *x: np.concatenate(x)[:train.num_clients], *parts)
    with np.errstate(invalid='ignore', divide='ignore'):
      values = {name: np.where(count > 0, np.float64(total) / count, np.nan)
                for name, (total, count) in sums.items()}
    return ClientMetrics(values, np.asarray(test.sizes))

  return evaluate_now


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


def _numbers(
    states: client_states.ClientStates, num_clients: int,
    clients: Sequence[int] | None,
) -> np.ndarray:
  """The numbers of the clients, checked."""
  size = states.size
  numbers = np.arange(num_clients) if clients is None else np.asarray(clients)
  if size is None:
    return numbers
  if clients is None and not size - states.padding <= num_clients <= size:
    raise ValueError(
        f'train must hold the {size} clients that were trained on, got '
        f'{num_clients}; say with clients= which of them these are, or for '
        'others set new_clients.')
  if numbers.shape != (num_clients,) or (
      (numbers < 0) | (numbers >= size)).any():
    raise ValueError(
        f'clients must be the numbers of the {num_clients} clients of train, '
        f'from 0 to {size - 1}, got {clients!r}.')
  return numbers


def _blocks(
    states: client_states.ClientStates, numbers: np.ndarray
) -> Iterator[tuple[np.ndarray, PyTree]]:
  """(places in `train`, states): all at once, or as many as memory takes.

  All blocks are as long; the last repeats the last client. A client's state is
  that of its number.
  """
  size = states.block(len(numbers))
  for start in range(0, len(numbers), size):
    places = np.minimum(start + np.arange(size), len(numbers) - 1)
    yield places.astype(np.int32), states.read(numbers[places])

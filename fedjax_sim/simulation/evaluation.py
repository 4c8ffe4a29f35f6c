"""Evaluation: on a test set, every example once, and client by client."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.clients.measure import batch_metrics, finished, local_metrics
from fedjax_sim.core import argument_kinds, checks, random, reuse
from fedjax_sim.core.types import (
  ClientData,
  FederatedAlgorithm,
  MetricSums,
  Model,
  PyTree,
  Variables,
)
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.models import output_check
from fedjax_sim.simulation import check_examples
from fedjax_sim.simulation.placement import client_states
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


class ClientMetrics(NamedTuple):
  """Metrics of every client of a federation.

  Attributes:
    values: name -> float64 [N], a client's mean; NaN for one without data, or
      of whom there is none: the area under the curve of a single class.
    num_examples: int [N].
    higher_is_better: name -> whether it is; a metric that nobody said it of is
      left out.
    defined: name -> bool [N], who has such a value; left out where all have.
  """

  values: dict[str, np.ndarray]
  num_examples: np.ndarray
  higher_is_better: Mapping[str, bool] = {}
  defined: Mapping[str, np.ndarray] = {}

  def summary(self) -> dict[str, float]:
    """Over clients with a value: mean, 10th, 50th, 90th percentile, worst.

    The mean is over clients, each counting the same. The worst is the smallest
    value of a metric of which larger ones are better, the largest of one of
    which smaller ones are; without a direction there is none. The number of
    clients with a value is told where it is not that of those with data.
    """
    result = {}
    with_data = self.num_examples > 0
    for name, values in self.values.items():
      values = values[with_data & self.defined.get(name, True)]
      if not len(values):
        continue
      low, median, high = np.percentile(values, [10, 50, 90])
      result |= {
          f'{name}/mean': float(np.mean(values)), f'{name}/p10': float(low),
          f'{name}/p50': float(median), f'{name}/p90': float(high)}
      if name in self.higher_is_better:
        worst = np.min if self.higher_is_better[name] else np.max
        result[f'{name}/worst'] = float(worst(values))
      if len(values) < with_data.sum():
        result[f'{name}/clients'] = len(values)
    return result


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
  for name, data in (('train', train), ('test', test)):
    checks.instance(name, data, FederatedData,
                    'data.from_clients(...) or data.federate(...)')
  if not test.num_examples:
    raise ValueError('test must have at least one example, no client has any.')
  test_places = _same_clients(train, test)
  checks.positive_int('lanes', lanes)
  checks.positive_int('batch_size', batch_size)
  device = lambda data: (jax.tree.map(jnp.asarray, data.examples),
                         jnp.asarray(data.offsets, jnp.int32))

  @jax.jit
  def run(server, places, states, train_arrays, test_arrays):
    def one_client(args):
      client, client_state = args
      data_of = lambda arrays, data, place: ClientData(
          arrays[0], arrays[1][place],
          arrays[1][place + 1] - arrays[1][place], data.max_size, True)
      variables = algorithm.personalize(
          server, client_state, data_of(train_arrays, train, client),
          random.client_key(key, client, jnp.int32(0)))
      return finished(model, local_metrics(
          model, variables,
          data_of(test_arrays[:2], test, test_arrays[2][client]), batch_size))

    if new_clients:
      initial = algorithm.client_init(algorithm.evaluated(server))
      return jax.lax.map(lambda client: one_client((client, initial)),
                         places, batch_size=lanes)
    return jax.lax.map(one_client, (places, states), batch_size=lanes)

  arrays = device(train), (*device(test), jnp.asarray(test_places))

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
    directions = {name: model.direction(name) for name in values}
    return ClientMetrics(
        values, np.asarray(test.sizes)[test_places],
        {name: x for name, x in directions.items() if x is not None},
        {name: count > 0 for name, (_, count) in sums.items()})

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


def _same_clients(train: FederatedData, test: FederatedData) -> np.ndarray:
  """int32 [N], where the clients of `train` are in `test`."""
  places = {name: i for i, name in enumerate(test.client_ids)}
  missing = [name for name in train.client_ids if name not in places]
  surplus = places.keys() - set(train.client_ids)
  if missing or surplus:
    parts = [f'{len(names)} only in {where} (such as {names[0]!r})'
             for where, names in (('train', missing),
                                  ('test', sorted(surplus, key=str)))
             if names]
    raise ValueError('train and test must hold the same clients, told by their '
                     f'client_ids, got {" and ".join(parts)}.')
  return np.array([places[name] for name in train.client_ids], np.int32)


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

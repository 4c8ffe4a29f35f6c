"""Metrics of every client on its own examples, for many states of a run."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.clients.measure import finished, local_metrics
from fedjax_sim.core import checks, random
from fedjax_sim.core.types import (
    ClientData,
    FederatedAlgorithm,
    Model,
    PyTree,
)
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation.placement import client_states
from fedjax_sim.simulation.rounds import SimulationState


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

  def __repr__(self) -> str:
    return (f'ClientMetrics({", ".join(self.values)} of '
            f'{len(self.num_examples):,} clients)')

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

  It is compiled once. The arguments are those of
  `evaluation.evaluate_clients`.
  """
  measure = evaluator_of_runs(
      model, lambda: algorithm, train, test, new_clients=new_clients,
      lanes=lanes, batch_size=batch_size)
  return functools.partial(measure, key, {})


def evaluator_of_runs(
    model: Model,
    make_algorithm: Callable[..., FederatedAlgorithm],
    train: FederatedData,
    test: FederatedData,
    *,
    new_clients: bool = False,
    lanes: int = 10,
    batch_size: int = 100,
) -> Callable[..., ClientMetrics]:
  """`client_evaluator` for runs whose algorithms differ in numbers only.

  Args:
    model: the model.
    make_algorithm: `(**numbers) -> FederatedAlgorithm`, called with traced
      numbers.
    train: as in `evaluation.evaluate_clients`, like the others.
    test: likewise.
    new_clients: likewise.
    lanes: likewise.
    batch_size: likewise.

  Returns:
    `(key, numbers, state, clients=None) -> ClientMetrics`, compiled once.
  """
  for name, data in (('train', train), ('test', test)):
    checks.instance(name, data, FederatedData,
                    'data.from_clients(...) or data.federate(...)')
  if not test.num_examples:
    raise ValueError('test must have at least one example, no client has any.')
  test_places = same_clients(train, test)
  checks.positive_int('lanes', lanes)
  checks.positive_int('batch_size', batch_size)
  device = lambda data: (jax.tree.map(jnp.asarray, data.examples),
                         jnp.asarray(data.offsets, jnp.int32))

  @jax.jit
  def run(key, numbers, server, places, states, train_arrays, test_arrays):
    algorithm = make_algorithm(**numbers)

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
      key: jax.Array, numbers: Mapping[str, float], state: SimulationState,
      clients: Sequence[int] | None = None,
  ) -> ClientMetrics:
    states = client_states.DeviceStates((), ())
    of_state = np.arange(train.num_clients)
    if not new_clients:
      states = client_states.of(state)
      of_state = _numbers(states, train.num_clients, clients)
    parts = [jax.device_get(run(key, numbers, state.server, *block, *arrays))
             for block in _blocks(states, of_state)]
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


def same_clients(
    train: FederatedData, test: FederatedData, name: str = 'test'
) -> np.ndarray:
  """int32 [N], where the clients of `train` are in `test`.

  Raises:
    ValueError: they do not hold the same clients; `name` is that of `test`.
  """
  places = {one: i for i, one in enumerate(test.client_ids)}
  missing = [one for one in train.client_ids if one not in places]
  surplus = places.keys() - set(train.client_ids)
  if missing or surplus:
    parts = [f'{len(names)} only in {where} (such as {names[0]!r})'
             for where, names in (('train', missing),
                                  (name, sorted(surplus, key=str)))
             if names]
    raise ValueError(
        f'train and {name} must hold the same clients, identified by their '
        f'client_ids, got {" and ".join(parts)}.')
  return np.array([places[one] for one in train.client_ids], np.int32)


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

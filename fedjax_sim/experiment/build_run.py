"""From a config to data, model and algorithm, ready to run."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from fedjax_sim.core import builders
from fedjax_sim.core.types import FederatedAlgorithm, Model, PyTree
from fedjax_sim.data import partition as partition_lib
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import FederatedData, federate
from fedjax_sim.data.partition import Partition
from fedjax_sim.data.sets.dataset import Dataset, NaturalClients, checked
from fedjax_sim.experiment import field_names, spec_fields
from fedjax_sim.experiment.build_algorithm import (
    make_algorithm,
)
from fedjax_sim.experiment.check_config import cohort_size, validate
from fedjax_sim.models import adapters, output_check
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation import evaluation, in_time
from fedjax_sim.simulation.simulation import Simulation


class Experiment(NamedTuple):
  """What a config stands for.

  Attributes:
    simulation: ready to run.
    partition: indices of each client's training examples.
    labels: int32 [E], of the whole training set; None for sequences and
      numbers, which can't be counted.
    client_test: the clients' held-out examples, or None.
  """

  simulation: Simulation
  partition: Partition
  labels: np.ndarray | None
  client_test: FederatedData | None


class Shape(NamedTuple):
  """How a round lies on the hardware, and how that multiplies.

  Attributes:
    devices: D, or 'auto'.
    lanes: W, or 'auto'.
    precision: of `core/products.py`.
  """

  devices: int | str
  lanes: int | str
  precision: str = 'auto'

  @classmethod
  def of(cls, wanted: Any) -> 'Shape':
    """That of what has fields of these names."""
    return cls(wanted.devices, wanted.lanes, wanted.precision)


def build(
    config: ConfigDict, shape: Shape,
    say: Callable[[str], None] = lambda text: None,
) -> Experiment:
  """Loads data and puts everything together.

  `say` is told what takes a while, before it begins.

  Raises:
    ValueError: a field is out of range, or the data can't be loaded.
  """
  validate(config)
  with field_names.in_errors(config, spec_fields.texts(config)):
    return _build(config, shape, say)


def _build(
    config: ConfigDict, shape: Shape, say: Callable[[str], None]
) -> Experiment:
  """`build`, of a config whose fields are in range."""
  dataset = load_dataset(config)
  labels = dataset.train['y']
  client_ids, partition, held_out = deal(config, dataset)
  client_test = held_out and federate(
      dataset.train, held_out, client_ids, allow_empty=True)
  model = make_model(config, dataset)
  num_clients = len(partition)
  train = federate(dataset.train, partition, client_ids)
  algorithm = make_algorithm(config, model, num_clients=num_clients)
  try_out(config, model, algorithm, train.examples, num_clients)
  simulation = build_lib.build(
      model, algorithm, train,
      make_sampler(config, train.sizes),
      test=evaluation.some_of(dataset.test, config.test_examples),
      seed=config.seed, rounds=config.rounds, say=say, **shape._asdict(),
      eval_batch_size=config.eval_batch_size, examples=config.examples,
      client_state=config.client_state, systems=make_systems(config))
  return Experiment(
      simulation, partition,
      labels if labels.ndim == 1 and labels.dtype.kind in 'iu' else None,
      client_test)


def shape_before(record: Mapping[str, Any], wanted: Shape) -> Shape:
  """What 'auto' became in an earlier part of a run, where that is possible.

  Bits depend on it: another shape sums in another order. Of the precision more
  than bits depend, so it stays on another device, too.

  Args:
    record: what the run's config.json says.
    wanted: now.
  """
  before = record['resolved']
  if 'precision' in before:
    wanted = wanted._replace(precision=before['precision'])
  same = all(record['config'].get(name, value) == value
             for name, value in (('devices', wanted.devices),
                                 ('lanes', wanted.lanes)))
  present = len(jax.devices())
  possible = before.get('devices', 1) <= present
  if jax.process_count() > 1:  # Every process takes part.
    possible = before.get('devices', 1) == present
  if same and possible:
    return wanted._replace(
        devices=before.get('devices', 1), lanes=before['lanes'])
  return wanted


def resolved(simulation: Simulation) -> dict[str, Any]:
  """What everything has become: a `Shape`, and of a GPU its CUDA graphs."""
  placement, graphs = simulation.placement, simulation.program.graphs
  shape = Shape(placement.size, simulation.lanes, placement.precision)
  return shape._asdict() | ({} if graphs is None else {'graphs': graphs})


def try_out(
    config: ConfigDict, model: Model, algorithm: FederatedAlgorithm,
    examples: PyTree, num_clients: int,
) -> None:
  """Makes the first states and outputs, as shapes.

  Raises:
    ValueError: something fails in it, whatever it raises; names the field.
  """
  key = jax.random.key(0)
  examples = jax.tree.map(lambda x: x[:1], examples)
  with builders.blamed('model', config.model):
    variables = jax.eval_shape(model.init, key, examples['x'])
    jax.eval_shape(
        lambda v: model.run(v, examples['x'], key=key, train=False,
                            mask=np.ones(1, bool))[0], variables)
  without = model._replace(metrics=lambda outputs, examples: {})
  for name, one in (('loss', without), ('metrics', model)):
    if config[name]:  # The model's own are checked with the data.
      with builders.blamed(name, config[name]):
        output_check.check_functions(one, variables, examples)
  with builders.blamed('algorithm', config.algorithm):
    jax.eval_shape(
        lambda v: algorithm.init(v, key, num_clients), variables)
    jax.eval_shape(algorithm.client_init, variables)


def load_dataset(config: ConfigDict) -> Dataset:
  """The data set that a config names.

  Raises:
    ValueError: it can't be loaded, or the builder returns something else.
  """
  dataset = spec_fields.make(
      'dataset', spec_fields.bind('dataset', config.dataset),
      {'data_dir': config.data_dir or None})
  return checked(dataset)


def make_model(config: ConfigDict, dataset: Dataset) -> Model:
  """The model that a config names, with its loss and metrics.

  Raises:
    ValueError: the builder refuses an argument or returns something else.
  """
  model = spec_fields.make(
      'model', spec_fields.bind('model', config.model),
      {'num_classes': dataset.num_classes})
  given = {}
  for name in ('loss', 'metrics'):
    bound = spec_fields.bind(name, config[name])
    if bound is not None:
      given[name] = builders.build(bound, {})
      if not callable(given[name]):
        raise ValueError(f'{name}={config[name]} must be a function, got a '
                         f'{type(given[name]).__name__}.')
  return adapters.with_loss(model, **given) if given else model


def make_sampler(config: ConfigDict, sizes: np.ndarray) -> sampling.Sampler:
  """Who takes part in the rounds.

  Args:
    config: like configs/default.py.
    sizes: int [N], examples of each client.

  Raises:
    ValueError: the builder refuses an argument or returns something else.
  """
  num_clients = len(sizes)
  cohort = cohort_size(config, num_clients)
  return spec_fields.make(
      'sampler', spec_fields.bind('sampler', config.sampler), {
          'num_clients': num_clients, 'sizes': sizes,
          'clients_per_round': cohort, 'cohort_size': cohort,
          'rounds': config.rounds, 'seed': config.seed})


def make_systems(config: ConfigDict) -> in_time.Systems | None:
  """What makes rounds take time; None where nothing does.

  Raises:
    ValueError: a builder refuses an argument or returns something else.
  """
  bound = {name: spec_fields.bind(name, config[name])
           for name in ('systems', 'reporting')}
  if bound['systems'] is None:
    return None
  made = {name: spec_fields.make(name, one, {})
          for name, one in bound.items() if one is not None}
  return in_time.Systems(
      made['systems'], made.get('reporting', in_time.Reporting()))


def deal(
    config: ConfigDict, dataset: Dataset
) -> tuple[list[str], Partition, Partition | None]:
  """Names, training examples, and examples held out, of every client.

  Raises:
    ValueError: there is no such partition of the examples.
  """
  labels = dataset.train['y']
  dealt = builders.build(spec_fields.bind('partition', config.partition), {
      'labels': labels, 'num_examples': len(labels),
      'labels_or_num_examples': len(labels), 'dataset': dataset,
      'num_clients': config.num_clients, 'seed': config.seed})
  if isinstance(dealt, NaturalClients):
    names, partition = dealt
  else:
    names, partition = [str(i) for i in range(len(dealt))], dealt
  if not config.client_test_fraction:
    return names, partition, None
  own, held_out = partition_lib.split(
      partition, config.client_test_fraction, seed=config.seed)
  if not any(map(len, held_out)):
    raise ValueError(
        'client_test_fraction must be 0 here: no client has two examples, so '
        f'none has any to be tested on, got {config.client_test_fraction}.')
  return names, own, held_out

"""The fields of a config that hold specs: what each may name.

Names are those of the public builders of a folder: whatever
`fedjax_sim.algorithms`, `models` or `aggregation` exports with the right return
type can be named, so a new builder needs no edit here.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import optax
from ml_collections import ConfigDict

from fedjax_sim import aggregation, algorithms, data, models, systems
from fedjax_sim.clients import restrictions, topologies
from fedjax_sim.clients.local_training import local_training
from fedjax_sim.core import builders, optimizer_checks, specs
from fedjax_sim.core.builders import AnyBound
from fedjax_sim.core.namespaces import Namespace
from fedjax_sim.core.types import (
    Aggregator,
    FederatedAlgorithm,
    MessageTransform,
    Model,
    Reducer,
)
from fedjax_sim.data import partition, sampling
from fedjax_sim.data.sets import load, tfds
from fedjax_sim.models import language

Builder = Callable[..., Any]

# What every builder may be given.
RUN = frozenset({'rounds', 'cohort_size', 'num_clients', 'seed'})
# What an algorithm may be given of local training.
TRAINING = frozenset({
    'epochs', 'steps', 'batch_size', 'weighting', 'client_schedule',
    'micro_batch_size', 'restrict'})
# What an algorithm is given by a field of the config, and a spec can't set.
_FIELDS_OF_ALGORITHM = {
    'epochs': 'local_epochs', 'steps': 'local_steps',
    'batch_size': 'batch_size (or full_batch)', 'weighting': 'weighting',
    'client_schedule': 'client_lr_decay', 'model': 'model',
    'micro_batch_size': 'micro_batch_size', 'restrict': 'restrict',
    'client_lr': 'client_lr',
    'client_optimizer': 'client_optimizer (and client_lr)',
    'server_optimizer': 'server_optimizer (and server_lr)',
    'aggregator': 'uplink, downlink, reduce or aggregate'}
# Fields that may be empty: there is no such part, or the model has its own.
OPTIONAL = ('loss', 'metrics', 'restrict', 'uplink', 'downlink', 'reduce',
            'aggregate', 'systems', 'reporting')
# Fields of what a round computes. Members of a sweep may differ in their
# traceable numbers.
OF_A_ROUND = ('algorithm', 'client_optimizer', 'server_optimizer', 'restrict',
              'uplink', 'downlink', 'reduce', 'aggregate')

_KINDS = {
    'dataset': load.Dataset, 'model': Model, 'sampler': sampling.Sampler,
    'algorithm': FederatedAlgorithm,
    'client_optimizer': optax.GradientTransformation,
    'server_optimizer': optax.GradientTransformation,
    'restrict': restrictions.Restriction,
    'uplink': MessageTransform, 'downlink': MessageTransform,
    'reduce': Reducer, 'aggregate': Aggregator,
    'systems': systems.Population, 'reporting': systems.Reporting}

# Of each field a spec, for errors.
EXAMPLES = {
    'dataset': 'mnist', 'partition': 'shards(2)', 'model': 'mnist_2nn',
    'loss': 'cross_entropy', 'metrics': 'accuracy',
    'sampler': 'power_of_choice(candidates=20)', 'algorithm': 'ditto(lam=0.1)',
    'restrict': 'federated_dropout(0.5)',
    'client_optimizer': 'sgd(momentum=0.9)',
    'server_optimizer': 'sgd(momentum=0.9)', 'uplink': 'clip(1.0)',
    'downlink': 'clip(1.0)', 'reduce': 'median', 'aggregate': 'masked_mean',
    'systems': 'lognormal(speed_ratio=10.0)',
    'reporting': 'window(over_selection=1.3)'}

_OPTAX_TRACEABLE = ('learning_rate', 'momentum', 'b1', 'b2', 'eps', 'decay',
                    'weight_decay', 'max_norm', 'max_delta')


def natural(
    dataset: load.Dataset, num_clients: int = 0
) -> load.NaturalClients:
  """The clients that a data set comes with.

  Args:
    dataset: the data set.
    num_clients: 0, or how many there are.

  Raises:
    ValueError: the data set has none, or another number of them.
  """
  if dataset.natural is None:
    raise ValueError(
        "partition 'natural' needs a dataset that comes with clients, such as "
        f'{", ".join(load.NATURAL_NAMES)} or a tfds(..., client="a feature"), '
        f'got {dataset.name!r}.')
  count = len(dataset.natural.partition)
  if num_clients not in (0, count):
    raise ValueError(f'num_clients must be 0 or {count}, the clients that '
                     f'{dataset.name} comes with, got {num_clients}.')
  return dataset.natural


def _returning(module: ModuleType, kind: type) -> dict[str, Builder]:
  """The public functions of a module that say they return a type."""
  public = {name: getattr(module, name) for name in module.__all__}
  return {name: value for name, value in public.items()
          if inspect.isfunction(value)
          and value.__annotations__.get('return') is kind}


def _of_optax() -> dict[str, Builder]:
  """The public functions of optax that return a transformation."""
  def returns_one(function: Builder) -> bool:
    kind = inspect.signature(function).return_annotation
    return isinstance(kind, type) and issubclass(
        kind, optax.GradientTransformation)
  return {name: value for name, value in vars(optax).items()
          if inspect.isfunction(value) and not name.startswith('_')
          and returns_one(value)}


def _optax_traceable(builder: Builder) -> tuple[str, ...]:
  return _OPTAX_TRACEABLE if builder.__module__.startswith('optax.') else ()


@functools.cache
def spaces() -> Mapping[str, Namespace]:
  """Field -> what its specs may name."""
  return {space.field: dataclasses.replace(
      space, example=EXAMPLES[space.field]) for space in (
      *_spaces_of_data(), *_spaces_of_models(), *_spaces_of_algorithms(),
      *_spaces_of_messages(), *_spaces_of_systems())}


def _spaces_of_data() -> list[Namespace]:
  sets = {name: functools.partial(load.load, name) for name in load.NAMES}
  partitions = _returning(partition, partition.Partition)
  return [
      Namespace('dataset', sets | {'digits': load.digits, 'tfds': tfds.tfds},
                frozenset({'data_dir'})),
      Namespace('partition', partitions | {'natural': natural}, frozenset({
          'labels', 'labels_or_num_examples', 'num_examples', 'num_clients',
          'seed', 'dataset'})),
      Namespace('sampler', _samplers(), RUN | {
                    'clients_per_round', 'sizes'}, {
                    'clients_per_round': 'clients_per_round',
                    'cohort_size': 'clients_per_round'})]


def _samplers() -> dict[str, Builder]:
  """Name -> builder, of all."""
  return _returning(data, sampling.Sampler) | {
      f.__name__: f for f in (sampling.uniform, sampling.by_size)}


def _spaces_of_models() -> list[Namespace]:
  preprocess = {f.__name__: f for f in (
      models.as_float, models.centered, models.standardized)}
  metrics = models.METRICS | {'word_metrics': language.word_metrics}
  return [
      Namespace('model', _returning(models, Model), frozenset({'num_classes'}),
                parts=preprocess | models.LOSSES),
      Namespace('loss', models.LOSSES, functions=True),
      Namespace('metrics', metrics, functions=True,
                combine=models.metrics.all_of)]


def _spaces_of_algorithms() -> list[Namespace]:
  optimizers = _of_optax()
  server = optimizers | _returning(algorithms, optax.GradientTransformation)
  late = _returning(aggregation.staleness, aggregation.staleness.Staleness)
  graphs = _returning(topologies, topologies.Graph)
  of_optimizers = {'combine': optax.chain, 'traceable': _optax_traceable,
                   'context': RUN | {'learning_rate'}}
  return [
      Namespace('algorithm', _returning(algorithms, FederatedAlgorithm),
                RUN | TRAINING | {'model', 'client_optimizer', 'client_lr',
                                  'server_optimizer', 'aggregator'},
                _FIELDS_OF_ALGORITHM,
                server | late | graphs | {'local_training': local_training},
                RUN | {'model'},
                traceable=_optax_traceable),
      Namespace('restrict', _returning(
          restrictions, restrictions.Restriction), RUN),
      Namespace('client_optimizer', optimizers, **of_optimizers,
                told={'learning_rate': 'client_lr'}),
      Namespace('server_optimizer', server, **of_optimizers,
                told={'learning_rate': 'server_lr'})]


def _spaces_of_messages() -> list[Namespace]:
  transforms = _returning(aggregation, MessageTransform)
  reducers = _returning(aggregation, Reducer)
  parts = (transforms | reducers | _returning(aggregation, aggregation.Stage)
           | _returning(aggregation, aggregation.AdaptiveNorm))
  options = {'context': RUN, 'parts': parts, 'parts_context': RUN}
  return [
      Namespace('uplink', transforms, combine=aggregation.chain, **options),
      Namespace('downlink', transforms, combine=aggregation.chain, **options),
      Namespace('reduce', reducers, **options),
      Namespace('aggregate', _returning(aggregation, Aggregator), **options)]


def _spaces_of_systems() -> list[Namespace]:
  populations = _returning(systems, systems.Population)
  parts = (populations | _returning(systems, systems.Availability)
           | _returning(systems, systems.Failures))
  return [Namespace('systems', populations, parts=parts),
          Namespace('reporting', _returning(systems, systems.Reporting))]


def bind(field: str, text: str) -> AnyBound | None:
  """A field's spec, looked up and fitted; None if the field is empty.

  Raises:
    ValueError: a name is unknown or an argument does not fit.
  """
  if text == '' and field in OPTIONAL:
    return None
  if not isinstance(text, str):
    raise ValueError(f'{field} must be the text of a spec, got {text!r}.')
  return _bind(field, text)


@functools.lru_cache(maxsize=1000)
def _bind(field: str, text: str) -> AnyBound:
  bound = builders.bind(text, spaces()[field])
  if field.endswith('_optimizer'):
    _check_rate(field, text, bound)
  return bound


def texts(config: ConfigDict) -> dict[str, str]:
  """Field -> its text, for all fields that hold a spec."""
  return {field: config[field] for field in spaces()}


def bind_all(config: ConfigDict) -> dict[str, AnyBound | None]:
  """Field -> its spec, for all fields that hold one."""
  return {field: bind(field, config[field]) for field in spaces()}


def make(field: str, bound: AnyBound, context: Mapping[str, Any]) -> Any:
  """Builds what a field's spec stands for.

  Raises:
    ValueError: a builder refuses an argument, or makes something else than the
      field holds; names the field and all of its spec.
  """
  with builders.naming_whole(field, builders.text_of(bound)):
    return _made(field, bound, context)


def _made(field: str, bound: AnyBound, context: Mapping[str, Any]) -> Any:
  if isinstance(bound, builders.BoundChain):
    made = [_made(field, part, context) for part in bound.parts]
    with builders.blamed(field, builders.text_of(bound)):
      return bound.combine(*made)
  made = builders.build(bound, context)
  kind = _KINDS.get(field)
  if kind is not None and not isinstance(made, kind):
    raise ValueError(
        f'{field}={builders.text_of(bound)} must make a {kind.__name__}, got a '
        f'{type(made).__name__}.')
  if kind is optax.GradientTransformation:
    optimizer_checks.check_part(f'{field}={builders.text_of(bound)}', made)
  return made


def canonical(config: ConfigDict) -> dict[str, Any]:
  """The fields, with one text for all spellings of a spec."""
  bound = bind_all(config)
  return config.to_dict() | {
      field: '' if spec is None else builders.text_of(spec)
      for field, spec in bound.items()}


def _check_rate(field: str, text: str, bound: AnyBound) -> None:
  """ValueError unless an optimizer's learning rate is that of the config."""
  rate = field.replace('optimizer', 'lr')
  if 'learning_rate' not in builders.taken(bound):
    raise ValueError(
        f'{field}={text} must have a part that is given its learning_rate by '
        f'the field {rate}, which would have no effect.')
  parts = bound.parts if isinstance(bound, builders.BoundChain) else (bound,)
  spec = specs.parse(field, text)
  calls = spec.parts if isinstance(spec, specs.Chain) else (spec,)
  for call, part in zip(calls, parts, strict=True):
    if call.args and 'learning_rate' in part.context:
      raise ValueError(
          f'{field}={text}: the arguments of {part.name} need their keywords, '
          f'and its learning rate is the field {rate}.')

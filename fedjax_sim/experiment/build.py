"""From a config to data, model and algorithm, ready to run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from fedjax_sim import models
from fedjax_sim.core import checks
from fedjax_sim.data import partition as partition_lib
from fedjax_sim.data import sampling
from fedjax_sim.data.federated import FederatedData, federate
from fedjax_sim.data.sets import load as load_lib
from fedjax_sim.experiment import build_algorithm
from fedjax_sim.experiment.build_algorithm import TRACED, make_algorithm
from fedjax_sim.simulation import evaluation
from fedjax_sim.simulation import simulate as simulate_lib
from fedjax_sim.simulation import sweep as sweep_lib
from fedjax_sim.simulation.placement import client_states
from fedjax_sim.simulation.simulation import Simulation

_PARTITIONS = {
    'iid': lambda c, y: partition_lib.iid(
        len(y), c.num_clients, seed=c.seed),
    'shards': lambda c, y: partition_lib.shards(
        y, c.num_clients, c.shards_per_client, seed=c.seed),
    'dirichlet': lambda c, y: partition_lib.dirichlet(
        y, c.num_clients, c.dirichlet_alpha, seed=c.seed,
        min_size=c.min_client_size),
    'quantity': lambda c, y: partition_lib.quantity(
        len(y), c.num_clients, seed=c.seed, sigma=c.quantity_sigma,
        min_size=c.min_client_size),
}
_NATURAL = 'natural'


def validate(config: ConfigDict) -> None:
  """ValueError if a field is out of range; reads no data."""
  checks.one_of('dataset', config.dataset, load_lib.NAMES)
  if config.data_dir and not Path(config.data_dir).is_dir():
    raise ValueError(
        f'data_dir must be a folder, there is none at {config.data_dir!r}.')
  checks.one_of('partition', config.partition, (*_PARTITIONS, _NATURAL))
  checks.one_of('model', config.model, models.MODELS)
  checks.one_of('loss', config.loss, models.LOSSES)
  checks.one_of('pixels', config.pixels, models.PIXELS)
  build_algorithm.validate(config)
  checks.one_of('examples', config.examples, simulate_lib.EXAMPLES)
  checks.one_of('client_state', config.client_state, client_states.CHOICES)
  checks.one_of('on_divergence', config.on_divergence, ('stop', 'continue'))
  natural = config.partition == _NATURAL
  if natural and config.dataset not in load_lib.NATURAL_NAMES:
    raise ValueError(
        "partition 'natural' needs a dataset that comes with clients, one of "
        f'{", ".join(load_lib.NATURAL_NAMES)}, got {config.dataset!r}.')
  checks.at_least('num_clients', config.num_clients, 0 if natural else 1)
  for name in ('shards_per_client', 'min_client_size', 'rounds', 'eval_every',
               'eval_batch_size', 'keep_checkpoints'):
    checks.positive_int(name, config[name])
  for name in ('devices', 'lanes'):
    checks.positive_int_or_auto(name, config[name])
  for name in ('clients_per_round', 'rounds_per_dispatch', 'seed',
               'test_examples'):
    checks.at_least(name, config[name], 0)
  for name in ('dirichlet_alpha', 'quantity_sigma'):
    checks.positive(name, config[name])
  checks.non_negative('checkpoint_seconds', config.checkpoint_seconds)
  checks.fraction('client_test_fraction', config.client_test_fraction)
  for target in config.targets:
    checks.fraction('targets', target)
  checks.fraction('client_fraction', config.client_fraction)
  if config.num_clients:
    cohort_size(config, config.num_clients)


def cohort_size(config: ConfigDict, num_clients: int) -> int:
  """M, from clients_per_round if it is set, else from client_fraction."""
  if config.clients_per_round:
    return sampling.cohort_size(
        num_clients, clients_per_round=config.clients_per_round)
  return sampling.cohort_size(
      num_clients, client_fraction=config.client_fraction)


def _clients(
    config: ConfigDict | SimpleNamespace, dataset: load_lib.Dataset
) -> tuple[list[str], partition_lib.Partition, partition_lib.Partition | None]:
  """Names, training examples, and examples held out, of every client."""
  if config.partition != _NATURAL:
    partition = _PARTITIONS[config.partition](config, dataset.train['y'])
    names = [str(i) for i in range(len(partition))]
  else:
    names, partition = dataset.natural
    if config.num_clients not in (0, len(partition)):
      raise ValueError(
          f'num_clients must be 0 or {len(partition)}, the clients that '
          f'{config.dataset} comes with, got {config.num_clients}.')
  if not config.client_test_fraction:
    return names, partition, None
  return names, *partition_lib.split(
      partition, config.client_test_fraction, seed=config.seed)


class Experiment(NamedTuple):
  """What a config stands for.

  Attributes:
    simulation: ready to run.
    partition: indices of each client's training examples.
    labels: int32 [E], of the whole training set; None for sequences.
    client_test: the clients' held-out examples, or None.
  """

  simulation: Simulation
  partition: partition_lib.Partition
  labels: np.ndarray | None
  client_test: FederatedData | None


class Shape(NamedTuple):
  """How a round lies on the hardware: devices D, lanes W; numbers or 'auto'."""

  devices: int | str
  lanes: int | str


def build(config: ConfigDict, shape: Shape) -> Experiment:
  """Loads data and puts everything together.

  Raises:
    ValueError: a field is out of range, or the data can't be had.
  """
  validate(config)
  dataset = load_lib.load(config.dataset, config.data_dir or None)
  labels = dataset.train['y']
  client_ids, partition, held_out = _clients(config, dataset)
  client_test = held_out and federate(
      dataset.train, held_out, client_ids, allow_empty=True)
  model = models.build(
      config.model, dataset.num_classes, config.loss, config.pixels)
  num_clients = len(partition)
  sampler = sampling.uniform(
      num_clients, cohort_size(config, num_clients), config.seed)
  simulation = simulate_lib.build(
      model, make_algorithm(config, model),
      federate(dataset.train, partition, client_ids), sampler,
      test=evaluation.some_of(dataset.test, config.test_examples),
      seed=config.seed, **shape._asdict(),
      eval_batch_size=config.eval_batch_size, examples=config.examples,
      client_state=config.client_state)
  return Experiment(
      simulation, partition, labels if labels.ndim == 1 else None, client_test)


def build_sweep(
    config: ConfigDict,
    settings: Sequence[Mapping[str, float]],
    **options,
) -> tuple[sweep_lib.Sweep, list[sweep_lib.Member]]:
  """Puts runs of a config together that differ in numbers only.

  Args:
    config: like configs/default.py.
    settings: of each run, its `seed` and fields of `TRACED`; the same fields
      in all of them.
    **options: further arguments of `sweep.build`.

  Raises:
    ValueError: a field or a setting is out of range, or data can't be had.
  """
  validate(config)
  if config.client_state == 'stored':
    raise ValueError(
        "client_state must be 'auto' or 'device' in a sweep, which keeps "
        "clients' states on the devices, got 'stored'.")
  for setting in settings:
    check_setting(config, setting, settings[0])
  dataset = load_lib.load(config.dataset, config.data_dir or None)
  model = models.build(
      config.model, dataset.num_classes, config.loss, config.pixels)
  fields = config.to_dict()
  federations = [federate(dataset.train, partition, names)
                 for names, partition, _ in _dealt(config, settings, dataset)]
  num_clients = federations[0].num_clients
  members = sweep_members(config, settings)
  sweep = sweep_lib.build(
      model, lambda **own: make_algorithm(
          SimpleNamespace(**fields | own), model),
      federations, cohort_size=cohort_size(config, num_clients),
      example=members[0].hyperparameters,
      test=evaluation.some_of(dataset.test, config.test_examples),
      eval_batch_size=config.eval_batch_size,
      **{'num_members': len(members)} | options)
  return sweep, members


def client_tests(
    config: ConfigDict, settings: Sequence[Mapping[str, float]]
) -> list[FederatedData]:
  """The clients' held-out examples, for each federation of `build_sweep`.

  Empty where the config holds none out.
  """
  if not config.client_test_fraction:
    return []
  dataset = load_lib.load(config.dataset, config.data_dir or None)
  return [federate(dataset.train, held_out, names, allow_empty=True)
          for names, _, held_out in _dealt(config, settings, dataset)]


def _dealt(config, settings, dataset):
  """`_clients` of each federation of a sweep."""
  return [_clients(SimpleNamespace(**config.to_dict() | {'seed': seed}),
                   dataset) for seed in _seeds_apart(config, settings)]


def sweep_members(
    config: ConfigDict, settings: Sequence[Mapping[str, float]]
) -> list[sweep_lib.Member]:
  """The members that settings stand for, of a sweep with the same seeds."""
  apart = _seeds_apart(config, settings)
  return [sweep_lib.Member(
      int(s['seed']), {k: v for k, v in s.items() if k != 'seed'},
      apart.index(s['seed']) if len(apart) > 1 else 0) for s in settings]


def _seeds_apart(config, settings) -> list[int]:
  """The seeds that need a partition of their own; one if nothing is drawn."""
  seeds = sorted({int(s['seed']) for s in settings})
  drawn = config.partition != _NATURAL or config.client_test_fraction
  return seeds if drawn else seeds[:1]


def check_setting(config, setting, first) -> None:
  """ValueError unless a sweep can have this member."""
  if setting.keys() != first.keys() or 'seed' not in setting:
    raise ValueError('the runs of a sweep must set the same fields, seed among '
                     f'them, got {sorted(setting)} and {sorted(first)}.')
  for name in setting.keys() - {'seed'}:
    checks.one_of('sweep', name, TRACED)
    build_algorithm.check_used(config, name)
  one = config.copy_and_resolve_references().unlock()
  one.update(setting)
  validate(one)

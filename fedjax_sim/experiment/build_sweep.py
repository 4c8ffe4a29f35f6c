"""From a config and what its runs differ in to a sweep, ready to run."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from fedjax_sim.core import builders, checks, variants
from fedjax_sim.core.types import Model
from fedjax_sim.data.federated import FederatedData, federate
from fedjax_sim.data.sets.load import Dataset
from fedjax_sim.experiment import build_run, field_names, spec_fields
from fedjax_sim.experiment.build_algorithm import TRACED, make_algorithm
from fedjax_sim.experiment.check_config import cohort_size, validate
from fedjax_sim.experiment.sweep_settings import with_fields
from fedjax_sim.simulation import (
    asynchronous,
    build,
    check_topology,
    evaluation,
)
from fedjax_sim.simulation import sweep as sweep_lib
from fedjax_sim.simulation.simulation import first_inputs

Setting = Mapping[str, Any]


def build_sweep(
    config: ConfigDict, settings: Sequence[Setting], **options
) -> tuple[sweep_lib.Sweep, list[sweep_lib.Member]]:
  """Puts runs of a config together that differ in numbers only.

  Args:
    config: like configs/default.py.
    settings: of each run, its `seed`, fields of `TRACED`, and specs of a round
      whose traceable numbers alone differ; the same fields in all of them.
    **options: further arguments of `sweep.build`.

  Raises:
    ValueError: a field or a setting is out of range, or data can't be loaded.
  """
  for setting in settings:
    check_setting(config, setting, settings[0])
  dataset = build_run.load_dataset(config)
  model = build_run.make_model(config, dataset)
  federations = [federate(dataset.train, partition, names)
                 for names, partition, _ in _dealt(config, settings, dataset)]
  num_clients = federations[0].num_clients
  check_algorithms(config, settings, model, dataset, num_clients)
  members = sweep_members(config, settings)
  sizes = {one.seed: federations[one.federation].sizes for one in members}
  sweep = sweep_lib.build(
      model, lambda **own: make_algorithm(
          config, model, num_clients=num_clients, numbers=own),
      federations, cohort_size=max(  # Of a sampler that has its own, too.
          build_run.make_sampler(config, one.sizes).max_cohort
          for one in federations),
      example=members[0].hyperparameters,
      make_sampler=lambda seed: build_run.make_sampler(
          with_fields(config, {'seed': seed}),
          sizes.get(seed, federations[0].sizes)),
      test=evaluation.some_of(dataset.test, config.test_examples),
      eval_batch_size=config.eval_batch_size,
      systems=build_run.make_systems(config),
      **{'precision': config.precision, 'num_members': len(members)} | options)
  return sweep, members


def check(groups: Sequence[tuple[ConfigDict, Sequence[Setting]]]) -> None:
  """Checks all that the builders of some sweeps would refuse; loads the data.

  Args:
    groups: the arguments of `build_sweep`, of each sweep.

  Raises:
    ValueError: a field or a setting is out of range, or data can't be loaded.
  """
  for config, settings in groups:
    for setting in settings:
      check_setting(config, setting, settings[0])
  datasets = {}
  for config, settings in groups:
    with field_names.in_errors(config, spec_fields.texts(config)):
      _check_builders(config, settings, datasets)


def _check_builders(
    config: ConfigDict, settings: Sequence[Setting],
    datasets: dict[str, Dataset],
) -> None:
  """ValueError if a builder refuses what it is given.

  `datasets` are those that were loaded, to which it adds.
  """
  if config.dataset not in datasets:
    datasets[config.dataset] = build_run.load_dataset(config)
  dataset = datasets[config.dataset]
  federations = [federate(dataset.train, partition, names)
                 for names, partition, _ in _dealt(config, settings, dataset)]
  model = build_run.make_model(config, dataset)
  check_algorithms(
      config, settings, model, dataset, federations[0].num_clients)
  for one in sweep_members(config, settings):
    _check_cohorts(with_fields(config, settings[0] | {'seed': one.seed}), model,
                   federations[one.federation])
  _check_time(config, settings, model, federations)


def _check_cohorts(
    config: ConfigDict, model: Model, train: FederatedData
) -> None:
  """ValueError if a run's sampler can't choose clients, or need not."""
  sampler = build_run.make_sampler(config, train.sizes)
  systems = build_run.make_systems(config)
  check_topology.check(
      make_algorithm(config, model, num_clients=train.num_clients),
      train.num_clients, sampler.max_cohort, sampler, systems is not None)
  if sampler.selector is not None:
    build.check_selector(sampler.selector, train, systems, config.examples)


def _check_time(
    config: ConfigDict, settings: Sequence[Setting], model: Model,
    federations: Sequence[FederatedData],
) -> None:
  """ValueError if a run's rounds can't succeed in time."""
  systems = build_run.make_systems(config)
  if systems is None:
    return
  for setting, member in zip(
      settings, sweep_members(config, settings), strict=True):
    one, train = with_fields(config, setting), federations[member.federation]
    variables = jax.eval_shape(
        model.init, jax.random.key(0), first_inputs(train))
    systems.timeline(
        make_algorithm(one, model, num_clients=train.num_clients), train,
        variables, build_run.make_sampler(one, train.sizes), member.seed)


def check_setting(config: ConfigDict, setting: Setting, first: Setting) -> None:
  """ValueError unless a sweep can have this member."""
  if setting.keys() != first.keys() or 'seed' not in setting:
    raise ValueError('the runs of a sweep must set the same fields, seed among '
                     f'them, got {sorted(setting)} and {sorted(first)}.')
  for name in setting.keys() - {'seed'}:
    checks.one_of('sweep', name, (*TRACED, *spec_fields.OF_A_ROUND))
  if config.client_state == 'stored':
    raise ValueError(
        "client_state must be 'auto' or 'device' in a sweep, which keeps "
        "clients' states on the devices, got 'stored'.")
  validate(with_fields(config, setting))


def check_algorithms(
    config: ConfigDict, settings: Sequence[Setting], model: Model,
    dataset: Dataset, num_clients: int,
) -> None:
  """ValueError if a builder refuses a member's numbers, or fails.

  Builders see them as traced values later, which they can't check.
  """
  systems = build_run.make_systems(config)
  for setting in settings:
    algorithm = make_algorithm(
        with_fields(config, setting), model, num_clients=num_clients)
    asynchronous.check(
        algorithm, systems, cohort_size(config, num_clients))
  build_run.try_out(config, model, algorithm, dataset.train, num_clients)


def sweep_members(
    config: ConfigDict, settings: Sequence[Setting]
) -> list[sweep_lib.Member]:
  """The members that settings stand for, of a sweep with the same seeds."""
  apart = _seeds_apart(config, settings)
  return [sweep_lib.Member(
      int(setting['seed']), numbers,
      apart.index(setting['seed']) if len(apart) > 1 else 0)
      for setting, numbers in zip(settings, _numbers(settings), strict=True)]


def client_tests(
    config: ConfigDict, settings: Sequence[Setting]
) -> list[FederatedData]:
  """The clients' held-out examples, for each federation of `build_sweep`.

  Empty where the config holds none out.
  """
  if not config.client_test_fraction:
    return []
  dataset = build_run.load_dataset(config)
  return [federate(dataset.train, held_out, names, allow_empty=True)
          for names, _, held_out in _dealt(config, settings, dataset)]


def _numbers(settings: Sequence[Setting]) -> list[dict[str, float]]:
  """Of each run the numbers that are traced, named as in `make_algorithm`."""
  found = [{name: float(s[name]) for name in TRACED if name in s}
           for s in settings]
  for field in spec_fields.OF_A_ROUND:
    if field not in settings[0]:
      continue
    bound = [spec_fields.bind(field, s[field]) for s in settings]
    paths = variants.differing(bound)
    for own, one in zip(found, map(variants.numbers, bound), strict=True):
      own |= {f'{field}.{path}': float(one[path]) for path in paths}
  return found


def _dealt(config: ConfigDict, settings: Sequence[Setting], dataset: Dataset):
  """`build_run.deal` of each federation of a sweep."""
  return [build_run.deal(with_fields(config, {'seed': seed}), dataset)
          for seed in _seeds_apart(config, settings)]


def _seeds_apart(config: ConfigDict, settings: Sequence[Setting]) -> list[int]:
  """The seeds that need a partition of their own; one if nothing is drawn."""
  seeds = sorted({int(s['seed']) for s in settings})
  bound = spec_fields.bind('partition', config.partition)
  drawn = 'seed' in builders.taken(bound) or config.client_test_fraction
  return seeds if drawn else seeds[:1]

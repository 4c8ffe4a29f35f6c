"""Whether a config's fields are in range, and whether each does something."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fedjax_sim.core import builders, checks, compilation, products, random
from fedjax_sim.core.builders import AnyBound
from fedjax_sim.data import sampling
from fedjax_sim.experiment import best, field_names, moved_fields, spec_fields
from fedjax_sim.simulation import autotune
from fedjax_sim.simulation.build import EXAMPLES
from fedjax_sim.simulation.placement import client_states


def _at_least(
    minimum: int, maximum: int | None = checks.LARGEST
) -> Callable[[str, Any], Any]:
  return lambda name, value: checks.at_least(name, value, minimum, maximum)


def _one_of(*valid: str) -> Callable[[str, Any], Any]:
  return lambda name, value: checks.one_of(name, value, valid)


def _folder(name: str, value: Any) -> None:
  checks.text(name, value)
  try:
    found = not value or Path(value).is_dir()
  except (OSError, ValueError):  # Too long, or with letters that no path has.
    found = False
  if not found:
    raise ValueError(f'{name} must be a folder, or empty, there is none at '
                     f'{checks.shown(value)}.')


def _fractions(name: str, values: Any) -> None:
  if not isinstance(values, list | tuple):
    raise ValueError(f'{name} must be a list of numbers in [0, 1], got '
                     f'{checks.shown(values)}.')
  for value in values:
    checks.fraction(name, value)


def _epochs(name: str, value: Any) -> None:
  if checks.positive(name, value) > checks.LARGEST:
    raise ValueError(f'{name} must be at most {checks.LARGEST}, got '
                     f'{checks.shown(value)}.')


def _part(name: str, value: Any) -> None:
  if checks.fraction(name, value) == 1:
    raise ValueError(f'{name} must be below 1, clients need examples to train '
                     f'on, got {checks.shown(value)}.')


# Every field that holds no spec.
_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    'data_dir': _folder,
    'num_clients': _at_least(0),
    'client_test_fraction': _part,
    'weighting': _one_of('examples', 'uniform'),
    'client_fraction': checks.fraction,
    'clients_per_round': _at_least(0),
    'local_epochs': _epochs,
    'local_steps': _at_least(0),
    'batch_size': _at_least(1),
    'full_batch': checks.boolean,
    'micro_batch_size': _at_least(1),
    'client_lr': checks.positive,
    'client_lr_decay': checks.positive,
    'server_lr': checks.positive,
    'server_lr_decay': checks.positive,
    'rounds': _at_least(1),
    'seed': random.seed,
    'eval_every': _at_least(1),
    'eval_batch_size': _at_least(1),
    'test_examples': _at_least(0),
    'client_eval_every': _at_least(0),
    'best_metric': checks.text,
    'best_mode': _one_of('', *best.MODES),
    'record_cohort': checks.boolean,
    'targets': _fractions,
    'on_divergence': _one_of('stop', 'continue'),
    'devices': checks.positive_int_or_auto,
    'lanes': lambda name, value: checks.positive_int_or_auto(
        name, value, autotune.WORDS),
    'examples': _one_of(*EXAMPLES),
    'client_state': _one_of(*client_states.CHOICES),
    'precision': _one_of(*products.CHOICES),
    'rounds_per_dispatch': _at_least(0),
    'checkpoint_seconds': checks.non_negative,
    'keep_checkpoints': _at_least(1),
    'tensorboard': checks.boolean,
}


class _Use(NamedTuple):
  """Where a field's value goes.

  Attributes:
    user: the field whose spec's builders are given it.
    names: of the parameters that it comes from, directly or not.
    unused: what it must be where no builder has such a parameter.
  """

  user: str
  names: tuple[str, ...]
  unused: Any


_USES: Mapping[str, _Use] = {
    'data_dir': _Use('dataset', ('data_dir',), ''),
    'num_clients': _Use('partition', ('num_clients',), 0),
    'weighting': _Use('algorithm', ('weighting',), 'examples'),
    'local_epochs': _Use('algorithm', ('epochs',), 1),
    'local_steps': _Use('algorithm', ('steps',), 0),
    'batch_size': _Use('algorithm', ('batch_size',), 10),
    'micro_batch_size': _Use('algorithm', ('micro_batch_size',), 256),
    'restrict': _Use('algorithm', ('restrict',), ''),
    'client_optimizer': _Use('algorithm', ('client_optimizer',), 'sgd'),
    'client_lr_decay': _Use('algorithm', ('client_schedule',), 1),
    'server_optimizer': _Use('algorithm', ('server_optimizer',), 'sgd'),
    'server_lr': _Use('algorithm', ('server_optimizer',), 1),
    'server_lr_decay': _Use('algorithm', ('server_optimizer',), 1),
} | dict.fromkeys(('uplink', 'downlink', 'reduce', 'aggregate'),
                  _Use('algorithm', ('aggregator',), ''))


def validate(config: ConfigDict) -> None:
  """Checks everything that can be checked without data.

  Raises:
    ValueError: a field is unknown, missing or out of range, a spec does not fit
      its builder, or a field would have no effect.
  """
  _check_names(config)
  compilation.graphs()  # Raises for a value that the variable can't have.
  with field_names.in_errors(config):
    _validate(config)


def _validate(config: ConfigDict) -> None:
  """`validate`, of a config that has all fields."""
  bound = spec_fields.bind_all(config)
  for name, check in _CHECKS.items():
    check(name, config[name])
  own_clients = 'dataset' in builders.taken(bound['partition'])
  checks.at_least('num_clients', config.num_clients, 0 if own_clients or (
      'num_clients' not in builders.taken(bound['partition'])) else 1)
  if config.num_clients:
    cohort_size(config, config.num_clients)
  for field, use in _USES.items():
    _check_used(config, field, use, bound[use.user])
  _check_together(config)
  if config.best_mode and not config.best_metric:
    raise ValueError("best_mode must be '' without best_metric, which it is "
                     f'about, got {config.best_mode!r}.')
  if config.client_eval_every and not config.client_test_fraction:
    raise ValueError(
        'client_eval_every must be 0 unless client_test_fraction holds out '
        f'examples of the clients, got {config.client_eval_every}.')
  _check_micro_batches(config, bound['algorithm'])
  if config.reporting and not config.systems:
    raise ValueError(
        'reporting must be empty without systems, which says how long clients '
        f'take, got {config.reporting!r}.')
  if config.aggregate and (config.uplink or config.reduce):
    raise ValueError(
        'aggregate stands for uplink and reduce, which must be empty beside '
        f'it, got uplink={config.uplink!r} and reduce={config.reduce!r}.')


def _check_together(config: ConfigDict) -> None:
  """ValueError for a field that another one makes useless."""
  for field, other, unused in (
      ('local_epochs', 'local_steps', 1), ('batch_size', 'full_batch', 10)):
    if config[other] and config[field] != unused:
      raise ValueError(
          f'{field} must be {unused} beside {other}={config[other]!r}, which '
          f'is used instead, got {config[field]!r}.')


# Algorithms that take a gradient over all of a client's data in any case.
_FULL_GRADIENT = ('mime', 'mimelite', 'scaffold')


def _check_micro_batches(config: ConfigDict, algorithm: AnyBound) -> None:
  """ValueError for a size of micro-batches where no full batch is cut."""
  is_known = getattr(algorithm, 'name', '') in spec_fields.spaces()[
      'algorithm'].builders
  if (config.micro_batch_size != 256 and not config.full_batch and is_known
      and 'batch_size' in builders.taken(algorithm)
      and algorithm.name not in _FULL_GRADIENT):
    raise ValueError(
        'micro_batch_size must be 256 without full_batch, since only a full '
        f'batch is cut into micro-batches, got {config.micro_batch_size}.')


def cohort_size(config: ConfigDict, num_clients: int) -> int:
  """M, from clients_per_round if it is set, else from client_fraction."""
  if config.clients_per_round:
    return sampling.cohort_size(
        num_clients, clients_per_round=config.clients_per_round)
  return sampling.cohort_size(
      num_clients, client_fraction=config.client_fraction)


def unknown_field(name: str) -> str:
  """What is said of a name that is no field; '' if it is one."""
  try:
    checks.one_of('a field of the config', name, _fields())
  except ValueError as error:
    return str(error)
  return ''


def _fields() -> set[str]:
  return {*_CHECKS, *spec_fields.spaces()}


def _check_names(config: ConfigDict) -> None:
  known = _fields()
  given = set(config.keys())
  old = {name: config[name] for name in given & moved_fields.NAMES}
  moved_fields.refuse(old, {n: config[n] for n in spec_fields.spaces()
                            if n in config})
  for name in sorted(given - known):
    checks.one_of('a field of the config', name, known)
  missing = sorted(known - given)
  if missing:
    raise ValueError(f'the config has no {", ".join(missing)}: begin with '
                     'default.get_config(), which has every field.')


def _check_used(
    config: ConfigDict, field: str, use: _Use, bound: AnyBound
) -> None:
  """ValueError if a field is set that the chosen builder can't take."""
  value = config[field]
  if value == use.unused or builders.taken(bound) & set(use.names):
    return
  raise ValueError(
      f'{field} must be {use.unused!r} for {use.user}={config[use.user]}, '
      f'which has no argument {" or ".join(use.names)}, got {value!r}.')

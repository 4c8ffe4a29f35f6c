"""The algorithm that a config names, with its optimizers."""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import optax
from ml_collections import ConfigDict

from fedjax_sim import algorithms
from fedjax_sim.algorithms import optimizers
from fedjax_sim.clients.local_training import local_training
from fedjax_sim.core import checks
from fedjax_sim.core.types import FederatedAlgorithm, Model

Config = ConfigDict | SimpleNamespace

# Numeric fields that the members of a sweep may differ in, besides the seed.
TRACED = (
    'client_lr', 'client_lr_decay', 'server_lr', 'server_lr_decay',
    'client_momentum', 'server_momentum', 'client_weight_decay',
    'client_clip_norm', 'server_tau', 'server_beta1', 'server_beta2',
    'proximal', 'regularization', 'moreau', 'mixing', 'fairness',
    'personal_lr')


class _Parts(NamedTuple):
  """What builders are given.

  Attributes:
    config: the config; fields of `TRACED` may be traced.
    model: the model.
    client: the client optimizer.
    server: the server optimizer.
    training: the arguments of `local_training`.
  """

  config: Config
  model: Model
  client: optax.GradientTransformation
  server: optax.GradientTransformation
  training: dict[str, Any]


class _Builder(NamedTuple):
  """How an algorithm is made, and the fields that are its own."""

  make: Callable[[_Parts], FederatedAlgorithm]
  fields: tuple[str, ...] = ()


def _with_optimizers(build, *names: str, **renamed: str) -> _Builder:
  """Of (model, client optimizer, server optimizer, fields)."""
  def make(parts: _Parts) -> FederatedAlgorithm:
    return build(parts.model, parts.client, parts.server,
                 **_fields(parts.config, names, renamed), **parts.training)
  return _Builder(make, (*names, *renamed.values()))


def _with_rate(
    build, *names: str, free: tuple[str, ...] = (), **renamed: str
) -> _Builder:
  """Of (model, rate of plain SGD, server optimizer, fields)."""
  def make(parts: _Parts) -> FederatedAlgorithm:
    _check_plain_sgd(parts.config, free)
    return build(parts.model, parts.config.client_lr, parts.server,
                 **_fields(parts.config, names, renamed), **parts.training)
  return _Builder(make, (*names, *renamed.values()))


def _without_server(build) -> _Builder:
  """Of (model, client optimizer)."""
  def make(parts: _Parts) -> FederatedAlgorithm:
    config = parts.config
    plain = (config.server_optimizer == 'sgd' and not any(map(_is_set, (
        config.server_lr, config.server_lr_decay, config.server_momentum),
        (1, 1, 0))))
    if not plain:
      raise ValueError(
          f'server_optimizer must be sgd with rate 1 for {config.algorithm}, '
          f'whose server step is its own, got {config.server_optimizer} at '
          f'{config.server_lr}.')
    return build(parts.model, parts.client, **parts.training)
  return _Builder(make)


def _fedsgd(parts: _Parts) -> FederatedAlgorithm:
  config = parts.config
  plain = config.client_optimizer == 'sgd' and not _beside_sgd(config)
  shared = {name: parts.training[name] for name in (
      'weighting', 'client_schedule', 'micro_batch_size')}
  return algorithms.fedsgd(
      parts.model, config.client_lr if plain else parts.client, parts.server,
      **shared)


def _centralized_sgd(parts: _Parts) -> FederatedAlgorithm:
  return algorithms.centralized_sgd(
      parts.model, parts.client, batch_size=parts.training['batch_size'],
      steps_per_round=parts.config.steps_per_round or None,
      client_schedule=parts.training['client_schedule'])


def _fedprox(parts: _Parts) -> FederatedAlgorithm:
  training = {k: v for k, v in parts.training.items() if k != 'proximal'}
  return algorithms.fedprox(
      parts.model, parts.client, parts.server, mu=parts.config.proximal,
      **training)


_BUILDERS: dict[str, _Builder] = {
    'apfl': _with_optimizers(algorithms.apfl, alpha='mixing'),
    'centralized_sgd': _Builder(_centralized_sgd, ('steps_per_round',)),
    'ditto': _with_optimizers(algorithms.ditto, lam='regularization'),
    'fedavg': _with_optimizers(algorithms.fedavg),
    'fedbn': _with_optimizers(algorithms.fedbn),
    'feddyn': _with_optimizers(algorithms.feddyn, alpha='regularization'),
    'fedexp': _without_server(algorithms.fedexp),
    'fednova': _with_rate(
        algorithms.fednova, free=('client_momentum',),
        momentum='client_momentum'),
    'fedper': _with_optimizers(algorithms.fedper, personal='personal_params'),
    'fedprox': _Builder(_fedprox, ('proximal',)),
    'fedrep': _with_optimizers(
        algorithms.fedrep, 'head_epochs', personal='personal_params'),
    'fedsgd': _Builder(_fedsgd),
    'ifca': _with_optimizers(algorithms.ifca, 'clusters'),
    'mime': _without_server(algorithms.mime),
    'mimelite': _without_server(algorithms.mimelite),
    'per_fedavg': _with_optimizers(algorithms.per_fedavg, 'personal_lr'),
    'pfedme': _with_optimizers(
        algorithms.pfedme, 'personal_lr', lam='moreau'),
    'q_fedavg': _with_rate(algorithms.q_fedavg, q='fairness'),
    'scaffold': _with_rate(algorithms.scaffold, option='control_option'),
}


# What says how much a client does: fields, and what they are if not set.
_WORK = {'local_epochs': 1, 'local_steps': 0, 'stragglers': 0, 'proximal': 0}
_WITHOUT_WORK = ('centralized_sgd', 'fedsgd')


def own_fields(config: Config) -> dict[str, Any]:
  """Fields that the config's algorithm has of its own, and their values."""
  names = list(_BUILDERS[config.algorithm].fields)
  if config.server_optimizer in optimizers.SERVER:
    taken = inspect.signature(
        optimizers.SERVER[config.server_optimizer]).parameters
    names += [f'server_{name}' for name in taken
              if hasattr(config, f'server_{name}')]
  if config.finetune_epochs:
    names += ['finetune_epochs', 'personal_lr']
  return {name: getattr(config, name) for name in names}


def check_used(config: Config, name: str) -> None:
  """ValueError if a field is of some algorithm, but not of the config's."""
  every = {field for builder in _BUILDERS.values() for field in builder.fields}
  every |= {'server_tau', 'server_beta1', 'server_beta2', 'finetune_epochs'}
  every -= {'proximal', 'client_momentum'}  # Most algorithms have these.
  own = own_fields(config)
  if name in every and name not in own:
    raise ValueError(
        f'{name} does nothing with algorithm {config.algorithm!r} and '
        f'server_optimizer {config.server_optimizer!r}, which have '
        f'{", ".join(own) or "no such fields"}.')


def validate(config: ConfigDict) -> None:
  """ValueError if a field of the algorithm is out of range."""
  checks.one_of('algorithm', config.algorithm, _BUILDERS)
  if config.algorithm in _WITHOUT_WORK:
    for name, unset in _WORK.items():
      if config[name] != unset:
        raise ValueError(
            f'{name} must be {unset} for {config.algorithm}, which has no '
            f'local work to choose, got {config[name]!r}.')
  for name in ('micro_batch_size', 'batch_size', 'clusters'):
    checks.positive_int(name, config[name])
  for name in ('steps_per_round', 'local_steps'):
    checks.at_least(name, config[name], 0)
  for name in ('client_lr', 'client_lr_decay', 'server_lr', 'server_lr_decay',
               'server_tau', 'local_epochs', 'head_epochs', 'personal_lr',
               'moreau'):
    checks.positive(name, config[name])
  for name in ('client_weight_decay', 'client_clip_norm', 'proximal',
               'regularization', 'fairness', 'finetune_epochs'):
    checks.non_negative(name, config[name])
  for name in ('server_beta1', 'server_beta2', 'stragglers', 'mixing',
               'client_momentum', 'server_momentum'):
    checks.fraction(name, config[name])


def make_algorithm(config: Config, model: Model) -> FederatedAlgorithm:
  """The algorithm; fields of `TRACED` may be traced.

  Raises:
    ValueError: the algorithm can't have a field's value.
  """
  client = optimizers.by_name('client', config.client_optimizer,
                              config.client_lr, config.client_momentum)
  before = []
  if _is_set(config.client_clip_norm, 0):
    before.append(optax.clip_by_global_norm(config.client_clip_norm))
  if _is_set(config.client_weight_decay, 0):
    before.append(optax.add_decayed_weights(config.client_weight_decay))
  client = optax.chain(*before, client) if before else client
  if config.server_optimizer == 'fedavgm' and not _is_set(
      config.server_momentum, 0):
    raise ValueError('server_momentum must be set for fedavgm, such as 0.9, '
                     'got 0.')
  rate, decay = config.server_lr, config.server_lr_decay
  if _is_set(decay, 1):
    rate = lambda count: config.server_lr * decay ** count
  server = optimizers.by_name(
      'server', config.server_optimizer, rate, config.server_momentum,
      tau=config.server_tau, beta1=config.server_beta1,
      beta2=config.server_beta2)
  algorithm = _BUILDERS[config.algorithm].make(
      _Parts(config, model, client, server, _training(config)))
  if not config.finetune_epochs:
    return algorithm
  return algorithms.finetune(algorithm, local_training(
      model, optax.sgd(config.personal_lr), epochs=config.finetune_epochs,
      batch_size=None if config.full_batch else config.batch_size))


def _training(config: Config) -> dict[str, Any]:
  """The arguments of `local_training`."""
  decay = config.client_lr_decay
  return {
      'epochs': config.local_epochs,
      'steps': config.local_steps or None,
      'batch_size': None if config.full_batch else config.batch_size,
      'stragglers': config.stragglers,
      'proximal': config.proximal,
      'weighting': config.weighting,
      'client_schedule': (lambda r: decay ** r) if _is_set(decay, 1) else None,
      'micro_batch_size': config.micro_batch_size,
  }


def _fields(config: Config, names, renamed) -> dict[str, Any]:
  """Arguments from fields of the same name, and of another."""
  return {**{name: getattr(config, name) for name in names},
          **{name: getattr(config, field) for name, field in renamed.items()}}


def _beside_sgd(config: Config, free: tuple[str, ...] = ()) -> list[str]:
  """Fields that make more of the client's optimizer than plain SGD."""
  return [name for name in ('client_momentum', 'client_clip_norm',
                            'client_weight_decay')
          if name not in free and _is_set(getattr(config, name), 0)]


def _check_plain_sgd(config: Config, free: tuple[str, ...]) -> None:
  if config.client_optimizer != 'sgd':
    raise ValueError(
        f'client_optimizer must be sgd for {config.algorithm}, whose equations '
        f'have its rate, got {config.client_optimizer!r}.')
  for name in _beside_sgd(config, free):
    raise ValueError(
        f'{name} must be 0 for {config.algorithm}, whose equations are those '
        f'of plain SGD, got {getattr(config, name)}.')


def _is_set(value, neutral: float) -> bool:
  """Whether a field does anything; a traced one may."""
  return checks.is_traced(value) or value != neutral

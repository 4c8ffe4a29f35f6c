"""The algorithm that a config names, with its optimizers and aggregation."""

from collections.abc import Mapping
from typing import Any

import optax
from ml_collections import ConfigDict

from fedjax_sim import aggregation
from fedjax_sim.core import builders, checks, variants
from fedjax_sim.core.builders import AnyBound
from fedjax_sim.core.signatures import signature
from fedjax_sim.core.types import Aggregator, FederatedAlgorithm, Model
from fedjax_sim.experiment import spec_fields
from fedjax_sim.experiment.blamed_parts import blamed_part
from fedjax_sim.experiment.check_config import cohort_size

# Fields that members of a sweep may differ in, beside the seed and traceable
# numbers in specs.
TRACED = ('client_lr', 'client_lr_decay', 'server_lr', 'server_lr_decay')


def make_algorithm(
    config: ConfigDict,
    model: Model,
    *,
    num_clients: int,
    numbers: Mapping[str, Any] | None = None,
) -> FederatedAlgorithm:
  """Builds the algorithm.

  Args:
    config: like configs/default.py.
    model: what is trained.
    num_clients: N.
    numbers: numbers to be used in place of the config's, which may be traced:
      by name of a field of `TRACED`, or for those in specs by field and path,
      such as 'algorithm.lam'.

  Raises:
    ValueError: a builder refuses what it is given.
  """
  numbers = numbers or {}
  value = lambda name: numbers.get(name, config[name])
  bound = {field: _with_numbers(config, field, numbers)
           for field in spec_fields.OF_A_ROUND}
  run = {'rounds': config.rounds, 'seed': config.seed,
         'num_clients': num_clients,
         'cohort_size': cohort_size(config, num_clients)}
  optimizer = lambda side, rate: _made(
      bound, f'{side}_optimizer', run | {'learning_rate': rate})
  restrict = bound['restrict'] and blamed_part(
      'restrict', builders.text_of(bound['restrict']),
      _made(bound, 'restrict', run))
  return _made(bound, 'algorithm', run | _training(config, value) | {
      'restrict': restrict,
      'model': model,
      'client_lr': value('client_lr'),
      'client_optimizer': value('client_lr') if _takes_rate(bound) else (
          optimizer('client', value('client_lr'))),
      'server_optimizer': optimizer('server', _server_rate(value)),
      'aggregator': _aggregator(bound, run)})


def _with_numbers(
    config: ConfigDict, field: str, numbers: Mapping[str, Any]
) -> AnyBound | None:
  """The spec of a field, with numbers by field and path put in."""
  bound = spec_fields.bind(field, config[field])
  own = {name.removeprefix(f'{field}.'): x for name, x in numbers.items()
         if name.startswith(f'{field}.')}
  return variants.replaced(bound, own) if own else bound


def _made(
    bound: Mapping[str, AnyBound | None], field: str, context: Mapping[str, Any]
) -> Any:
  return spec_fields.make(field, bound[field], context)


def _takes_rate(bound: Mapping[str, AnyBound]) -> bool:
  """Whether the algorithm can be given plain SGD as a number, and it is that.

  An annotation with `float` says that it can.
  """
  if builders.text_of(bound['client_optimizer']) != 'sgd':
    return False
  return all(
      signature(call.builder).accepts('client_optimizer', float)
      for call in builders.calls(bound['algorithm'])
      if 'client_optimizer' in call.context)


def _server_rate(value) -> optax.ScalarOrSchedule:
  rate, decay = value('server_lr'), value('server_lr_decay')
  return (lambda count: rate * decay ** count) if _is_set(decay) else rate


def _training(config: ConfigDict, value) -> dict[str, Any]:
  """What builders are given of local training."""
  decay = value('client_lr_decay')
  return {
      'epochs': config.local_epochs,
      'steps': config.local_steps or None,
      'batch_size': None if config.full_batch else config.batch_size,
      'weighting': config.weighting,
      'client_schedule': (lambda r: decay ** r) if _is_set(decay) else None,
      'micro_batch_size': config.micro_batch_size,
  }


def _aggregator(
    bound: Mapping[str, AnyBound | None], run: Mapping[str, Any]
) -> Aggregator | None:
  """The aggregation that a config names; None if it names none."""
  made = {field: blamed_part(field, builders.text_of(bound[field]), _made(
      bound, field, run)) for field in (
          'uplink', 'downlink', 'reduce', 'aggregate')
          if bound[field] is not None}
  if not made:
    return None
  whole = made.get('aggregate') or aggregation.aggregator(
      *([made['uplink']] if 'uplink' in made else []),
      reduce=made.get('reduce'))
  if 'downlink' not in made:
    return whole
  down = aggregation.downlink(made['downlink'])
  both = aggregation.aggregator(
      down, *([whole.transform] if whole.transform is not None else []),
      reduce=whole.reducer)
  return both._replace(noise_multiplier=whole.noise_multiplier)


def _is_set(decay: Any) -> bool:
  """Whether a decay does anything; a traced one may."""
  return checks.is_traced(decay) or decay != 1

"""Optimizers by name, for configs: optax's, and the field's for the server."""

import inspect

import optax

from fedjax_sim.algorithms import server_optimizers
from fedjax_sim.core import checks

# Beside those of optax, on the server.
SERVER = {
    'fedadagrad': server_optimizers.fedadagrad,
    'fedadam': server_optimizers.fedadam,
    'fedavgm': server_optimizers.fedavgm,
    'fedyogi': server_optimizers.fedyogi,
}


def names() -> list[str]:
  """The public functions of optax that must be given a learning rate first."""
  def needs_rate(function):
    parameters = list(inspect.signature(function).parameters.values())
    return bool(parameters) and (
        parameters[0].name == 'learning_rate'
        and parameters[0].default is inspect.Parameter.empty)
  return [name for name, value in vars(optax).items()
          if inspect.isfunction(value) and needs_rate(value)]


def by_name(
    side: str,
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    momentum: float = 0.0,
    **adaptive: float,
) -> optax.GradientTransformation:
  """An optimizer of optax, or one of `SERVER`.

  Args:
    side: 'client' or 'server', the config's prefix, for errors.
    name: such as 'sgd', 'adam', 'yogi', 'fedadam'.
    learning_rate: a number or an optax schedule.
    momentum: 0 leaves the optimizer's default.
    **adaptive: `tau`, `beta1`, `beta2`, for those of `SERVER` that have them.

  Raises:
    ValueError: there is no such optimizer, or it has no momentum.
  """
  own = SERVER if side == 'server' else {}
  checks.one_of(f'{side}_optimizer', name, [*names(), *own])
  function = own.get(name) or getattr(optax, name)
  parameters = inspect.signature(function).parameters
  options = {key: value for key, value in adaptive.items()
             if name in own and key in parameters}
  if checks.is_traced(momentum) or momentum:
    if 'momentum' not in parameters:
      raise ValueError(
          f'{side}_momentum must be 0 for {side}_optimizer {name!r}, which has '
          f'no momentum, got {momentum!r}.')
    options['momentum'] = momentum
  return function(learning_rate, **options)

"""optax's optimizers by name, for configs."""

import inspect

import optax

from fedjax_sim.core import checks


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
) -> optax.GradientTransformation:
  """An optimizer of optax.

  Args:
    side: 'client' or 'server', the config's prefix, for errors.
    name: such as 'sgd', 'adam', 'yogi'.
    learning_rate: a number or an optax schedule.
    momentum: 0 leaves the optimizer's default.

  Raises:
    ValueError: optax has no such optimizer, or it has no momentum.
  """
  checks.one_of(f'{side}_optimizer', name, names())
  function = getattr(optax, name)
  if not checks.is_traced(momentum) and not momentum:
    return function(learning_rate)
  if 'momentum' not in inspect.signature(function).parameters:
    raise ValueError(
        f'{side}_momentum must be 0 for {side}_optimizer {name!r}, which has '
        f'no momentum, got {momentum!r}.')
  return function(learning_rate, momentum=momentum)

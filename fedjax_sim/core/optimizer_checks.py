"""Whether an optax transformation is an optimizer, with numbers in range.

Optax accepts `sgd(-0.1)`, which climbs, `sgd(0.1, momentum=5)` and
`adam(0.1, b1=1.5)`, which explode. An optimizer is a pair of functions, so its
numbers are read from what these close over, and whether it descends is tried.
Those of the same functions, with numbers of the same signs, are tried once.
"""

import functools
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

from fedjax_sim.core import checks, compilation, optimizers, precision

# Names in optax's code -> the range, its test. Others may be anything.
_DECAY = 'in [0, 1)', lambda x: 0 <= x < 1
_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    **dict.fromkeys(
        ('b1', 'b2', 'b3', 'decay', 'rho', 'decay_rate', 'momentum', 'beta1',
         'beta2'), _DECAY),
    **dict.fromkeys(
        ('eps', 'eps_root', 'epsilon', 'eta', 'initial_accumulator_value',
         'initial_scale', 'min_norm', 'min_scale'),
        ('at least 0', lambda x: x >= 0)),
    **dict.fromkeys(('max_norm', 'max_delta', 'threshold', 'clipping'),
                    ('positive', lambda x: x > 0)),
    'step_size': ('finite and not 0 in float32',
                  lambda x: x == 0 or abs(x) >= np.finfo(np.float32).tiny)}
# What users call a number that optax's code calls otherwise.
_ALIASES = {'step_size': 'learning_rate'}
_PARTS = {('trace', 'decay'): 'momentum'}
# Those that work elsewhere, and why not here.
_UNFIT = {
    'schedule_free': 'it is evaluated at other parameters than it trains, '
                     'those of schedule_free_eval_params',
    'lookahead': 'it takes LookaheadParams, two models in one',
    'sam': 'its first step climbs, and another one has to follow it',
    'differentially_private_aggregate': 'it takes a gradient for each example'}
# Its running sum of squares is Adagrad's where this is 1, as by default.
_CLOSED = {('scale_by_sm3', 'b2')}


def check(name: str, optimizer: Any) -> optax.GradientTransformation:
  """Returns an optimizer that can train; see `problem`.

  Args:
    name: what it was given as, such as 'client_optimizer'.
    optimizer: of optax, or of one's own with its two functions.

  Raises:
    ValueError: it is none, or can't be used here; says why.
  """
  checks.optimizer(name, optimizer)
  what = problem(optimizer)
  if what:
    raise ValueError(f'{name} {what}.')
  return optimizer


def check_part(name: str, part: Any) -> optax.GradientTransformation:
  """As `check`, of a part of a chain, such as a clip, which may climb alone."""
  checks.optimizer(name, part)
  what = problem(part, alone=False)
  if what:
    raise ValueError(f'{name} {what}.')
  return part


def problem(
    optimizer: optax.GradientTransformation, alone: bool = True) -> str:
  """What is wrong with an optimizer, '' if nothing is.

  Its numbers must be in range. Its steps on |w|^2 / 2 must need gradients and
  parameters only, and where it stands `alone` they must not climb. It is not
  tried within a program that is being traced: its numbers may be traced then.
  """
  wrong = (next(_no_numbers(optimizer), '')
           or next(_wrong_numbers(optimizer), '') or _unfit(optimizer))
  compilation.keep_programs()  # The next process finds these, too.
  if wrong or isinstance(jnp.zeros(()), jax.core.Tracer):
    return wrong
  wrong = next(_wrong_schedules(optimizer), '')
  if wrong:
    return wrong
  needs, climbs = _tried(optimizer)
  return needs or (climbs if alone else '')


def _unfit(optimizer: optax.GradientTransformation) -> str:
  for function in _functions([optimizer.init, optimizer.update]):
    name = function.__qualname__.split('.')[0]
    if name in _UNFIT and (function.__module__ or '').startswith('optax'):
      return f'can not be made by optax\'s {name}: {_UNFIT[name]}'
  return ''


class Number(NamedTuple):
  """A number that optax's code closes over: function, name there, value."""

  function: str
  name: str
  value: float


def numbers(optimizer: optax.GradientTransformation) -> Iterator[Number]:
  """Those of optax's functions that an optimizer is made of."""
  for function in _functions([optimizer.init, optimizer.update]):
    if not (getattr(function, '__module__', '') or '').startswith('optax'):
      continue
    for name, value in _closed_over(function):
      if checks.is_traced(value) or isinstance(value, bool):
        continue
      if isinstance(value, int | float | np.number) or (
          isinstance(value, jax.Array | np.ndarray) and not value.ndim
          and jnp.issubdtype(value.dtype, jnp.number)):
        yield Number(function.__qualname__.split('.')[0], name, value)


def _no_numbers(optimizer: optax.GradientTransformation) -> Iterator[str]:
  """Text, True and False where optax takes a number."""
  for function in _functions([optimizer.init, optimizer.update]):
    if not (getattr(function, '__module__', '') or '').startswith('optax'):
      continue
    maker = function.__qualname__.split('.')[0]
    for name, value in _closed_over(function):
      if isinstance(value, bool | str) and _takes_number(
          function.__module__, maker, name):
        shown = _PARTS.get((maker, name), _ALIASES.get(name, name))
        # Optax has taken -1 times a rate, which of text leaves nothing.
        got = checks.shown(value) if value != '' else 'text'
        yield f'must have {shown} a number, got {got} (in optax.{maker})'


def _takes_number(module: str, maker: str, name: str) -> bool:
  """Whether an argument of a function of optax's is annotated as a number."""
  made_by = getattr(sys.modules.get(module), maker, None)
  if not inspect.isfunction(made_by):
    return name in _RANGES
  parameter = inspect.signature(made_by).parameters.get(name)
  about = str(parameter.annotation) if parameter else ''
  # A mask may be True, or anything.
  return name in _RANGES or 'float' in about and 'Any' not in about


def check_factors(name: str, schedule: Callable | None) -> None:
  """ValueError unless this is None, or rounds -> factors that are not negative.

  Args:
    name: of the argument.
    schedule: takes a round, from 0. What a trace alone could tell is taken.
  """
  if schedule is None:
    return
  checks.function(name, schedule, 'of the round, such as lambda r: 0.99 ** r')
  try:
    factors = [float(schedule(jnp.int32(number))) for number in _STEPS]
  except Exception:  # It shows where the rounds are traced.
    return
  for number, factor in zip(_STEPS, factors, strict=True):
    if factor < -1e-6 * max(map(abs, factors)):  # Not what rounding leaves.
      raise ValueError(
          f'{name} must give factors that are not negative, but gives '
          f'{factor:.3g} in round {number}, from 0, so clients would climb '
          'there.')


# Where a schedule is looked at: the first steps or rounds, and further ones.
_STEPS = (0, 1, 2, 10, 100, 1_000, 10_000)


def _wrong_schedules(optimizer: optax.GradientTransformation) -> Iterator[str]:
  """Learning rates by step that are negative, or never anything but 0."""
  for function in _functions([optimizer.init, optimizer.update]):
    if (function.__module__ or '').startswith('optax') and (
        function.__qualname__.startswith('scale_by_learning_rate.')):
      parts = dict(_closed_over(function))
      schedule = parts.get('learning_rate')
      if callable(schedule) and parts.get('m', -1) == -1:
        yield from _wrong_rates(schedule)


def _wrong_rates(schedule: Callable) -> Iterator[str]:
  try:
    rates = [float(schedule(jnp.int32(step))) for step in _STEPS]
  except Exception:  # It shows where the optimizer is tried.
    return
  if not any(rates):
    yield ('must have a learning rate, but its schedule gives 0 at steps '
           f'{", ".join(map(str, _STEPS))}')
  largest = max(map(abs, rates))
  for step, rate in zip(_STEPS, rates, strict=True):
    if rate < -1e-6 * largest:  # Not what rounding leaves of 0.
      yield ('must have a learning rate that is not negative, but its schedule '
             f'gives {rate:.3g} at step {step}, so it climbs there')


def _wrong_numbers(optimizer) -> Iterator[str]:
  for function, name, value in numbers(optimizer):
    wanted, fits = _RANGES.get(name, ('', lambda x: True))
    closed = (function, name) in _CLOSED and value == 1
    if not (fits(value) and math.isfinite(value) or closed):
      shown = _PARTS.get((function, name), _ALIASES.get(name, name))
      yield (f'must have {shown} {wanted or "finite"}, got '
             f'{abs(value) if name == "step_size" else value} (in '
             f'optax.{function})')


def _closed_over(function: Callable) -> Iterator[tuple[str, Any]]:
  cells = getattr(function, '__closure__', None) or ()
  names = function.__code__.co_freevars if cells else ()
  for name, cell in zip(names, cells, strict=True):
    try:
      yield name, cell.cell_contents
    except ValueError:  # It is empty.
      continue


def _functions(values: list[Any]) -> Iterator[Callable]:
  """All functions in values, and those that they close over."""
  seen, waiting = set(), list(values)
  while waiting:
    value = waiting.pop(0)
    if isinstance(value, functools.partial):
      waiting += [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, list | tuple):
      waiting += value
    elif isinstance(value, dict):
      waiting += value.values()
    elif callable(value) and hasattr(value, '__code__') and (
        id(value) not in seen):
      seen.add(id(value))
      yield value
      waiting += [x for _, x in _closed_over(value)]


def _tried(optimizer: optax.GradientTransformation) -> tuple[str, str]:
  """What is wrong with its first steps: what they need, and where they go."""
  kind = _kind(optimizer)
  if kind is None:
    return _tried_now(optimizer)
  if kind not in _TRIED:
    _TRIED[kind] = _tried_now(optimizer)
  return _TRIED[kind]


_TRIED: dict[Any, tuple[str, str]] = {}


def _kind(optimizer: optax.GradientTransformation) -> Any:
  """What decides whether it descends, to be compared; None if not known.

  It is known where all functions are optax's or ours, and close over nothing
  but numbers, names and each other.
  """
  parts = []
  for function in _functions([optimizer.init, optimizer.update]):
    if not (function.__module__ or '').startswith(('optax', 'fedjax_sim')):
      return None
    parts.append(f'{function.__module__}.{function.__qualname__}')
    for name, value in _closed_over(function):
      if isinstance(value, bool | str | None):
        parts.append((name, value))
      elif isinstance(value, int | float):
        parts.append((name, value > 0, value < 0))
      elif not callable(value) and not (
          isinstance(value, tuple | list) and all(map(callable, value))):
        return None
  return tuple(parts)


@functools.lru_cache(maxsize=64)
def _tried_now(optimizer: optax.GradientTransformation) -> tuple[str, str]:
  params = {'w': np.array([[2., -1.5], [1., 3.]], np.float32),
            'b': np.array([-2., 1.], np.float32)}

  def steps():
    """Along the gradient, float32 [3]: three steps that don't move."""
    first = optimizer.init(params)

    def step(state, _):
      updates, following = optimizer.update(
          jax.tree.map(jnp.asarray, params), state, params)
      along = sum(jnp.vdot(u, p) for u, p in zip(
          jax.tree.leaves(updates), jax.tree.leaves(params), strict=True))
      # Noise may climb.
      known = not optimizers.random_places(first)
      return precision.narrow(following, state), along if known else -1.0

    return jax.lax.scan(step, first, length=3)[1]

  try:
    along = np.asarray(jax.jit(steps)())
  except Exception as error:  # Optax and JAX raise many types.
    return _explained(error), ''
  # What is found counts for all of its kind, an overflow is of one rate's.
  if not np.all(np.isfinite(along)):
    return '', ''
  if np.any(along > 0):
    return '', (
        'must descend, but on a quadratic it climbs: its learning rate is '
        'negative, or it has none. Optax adds updates, so a chain needs a part '
        'such as optax.scale_by_learning_rate(0.1)')
  return '', ''


def _explained(error: Exception) -> str:
  """Which arguments it lacks; '' if it may just not fit the quadratic."""
  text = ' '.join(str(error).split()).removesuffix('.')
  missing = re.search(r'missing \d+ required .*arguments?: (.*)$', text)
  given = re.search(r'(\w+) must be provided', text)
  if missing or given:
    return ('must take its steps from gradients and parameters alone, but it '
            f'needs {(missing or given)[1]} as well')
  return ''

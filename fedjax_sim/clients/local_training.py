"""Local training with its settings: what algorithms are built from.

How much a client does, in which batches, with which optimizer and rate, how it
is weighed, and a proximal term: arguments that every algorithm takes alike and
hands on to `local_training`.
"""

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple, TypedDict

import jax
import numpy as np
import optax

from fedjax_sim.clients import gradients
from fedjax_sim.clients.local_sgd import (
    WEIGHTINGS,
    LocalState,
    Weighting,
    difference,
    run_sgd,
)
from fedjax_sim.clients.restrictions import restriction, submodels
from fedjax_sim.clients.restrictions.restriction import Restriction
from fedjax_sim.clients.work import local_work
from fedjax_sim.core import (
    checks,
    optimizer_checks,
    precision,
    random,
    specs,
)
from fedjax_sim.core.local_cost import LocalCost
from fedjax_sim.core.types import (
    ClientData,
    Message,
    Model,
    PyTree,
    Variables,
)

Schedule = Callable[[jax.Array], jax.Array]


@specs.traceable('proximal')
class TrainingOptions(TypedDict, total=False):
  """The keyword arguments of `local_training`, which algorithms hand on."""

  epochs: float
  steps: int | None
  batch_size: int | None
  stragglers: float
  proximal: float
  weighting: str
  client_schedule: Schedule | None
  micro_batch_size: int
  restrict: Restriction | None


# Some builders take an optimizer, others a rate.
_RATES = {'client_optimizer': 'client_lr', 'client_lr': 'client_optimizer'}


def takes_training(
    builder: Callable | None = None, *, never_restricted: str = ''
) -> Callable:
  """Makes a builder with `**training` name a keyword that it does not have.

  Args:
    builder: takes arguments of its own and `Unpack[TrainingOptions]`. Without
      it a decorator with the other arguments is returned.
    never_restricted: why `restrict` must not be given; empty if it may be.

  Returns:
    The builder, which raises a TypeError with its name, the keyword and the
    names that are near. Where `restrict` gives clients a submodel, what it
    builds is that algorithm on submodels.
  """
  if builder is None:
    return functools.partial(takes_training, never_restricted=never_restricted)
  parameters = inspect.signature(builder).parameters
  known = [name for name, p in parameters.items() if p.kind != p.VAR_KEYWORD]
  known += [name for name in TrainingOptions.__annotations__
            if name not in known]

  @functools.wraps(builder)
  def checked(*args, **kwargs):
    for name in kwargs:
      if name not in known:
        other = _RATES.get(name)
        near = [other] if other in known else difflib.get_close_matches(
            name, known, n=1)
        hint = f' Did you mean {near[0]!r}?' if near else ''
        raise TypeError(f'{builder.__name__} has no argument {name!r}.{hint} '
                        f'It takes {", ".join(known)}.')
    given = kwargs.get('restrict')
    if given is not None and never_restricted:
      raise ValueError(
          f'restrict must not be given to {builder.__name__}: '
          f'{never_restricted}, got {getattr(given, "name", given)}.')
    if isinstance(given, Restriction):
      given.check_fits(kwargs.get('aggregator'))
      if given.submodel is not None:
        del kwargs['restrict']
        return submodels.with_submodels(builder, given, args, kwargs)
    return builder(*args, **kwargs)

  return checked


def whole_work(training: TrainingOptions, **changes) -> TrainingOptions:
  """Settings for a model that a client is evaluated with.

  Nobody straggles or sends anything there, and steps have their full length
  whatever the round.

  Args:
    training: the settings of training.
    **changes: further ones of them that differ.
  """
  return TrainingOptions(**{
      **training, 'stragglers': 0.0, 'client_schedule': None,
      'restrict': None, **changes})


class LocalTraining(NamedTuple):
  """A client's training in a round.

  Attributes:
    run: `(Variables, ClientData, key, round, *, correct=None, **options) ->
      LocalState`, from these variables on. `round` is int32 [], from 0;
      `correct` as in `run_sgd`, on top of the proximal term, whose centre is
      where it starts; `options` are further ones of `run_sgd`.
    num_steps: `(ClientData, key) -> int32 []`, the steps that `run` with the
      same key does.
    weight: `(ClientData) -> float32 []`, of the client in the mean.
    message: `(LocalState, Variables, ClientData) -> Message`, of what `run`
      gave minus the variables that it began with, of that weight; it says what
      travels where training was restricted.
    planned_steps: what `FederatedAlgorithm.local_steps` should be.
    planned_pass: int [M] sizes -> int [M], a pass over all of a client's
      examples in that measure.
    step_scale: `(round) -> float32 []`, the schedule's factor on a step.
    gradient: `(Variables, ClientData, key) -> (gradient, model state,
      metrics)`, of the loss over all local data, without proximal term.
  """

  run: Callable[..., LocalState]
  num_steps: Callable[[ClientData, jax.Array], jax.Array]
  weight: Weighting
  message: Callable[[LocalState, Variables, ClientData], Message]
  planned_steps: Callable
  planned_pass: Callable
  step_scale: Schedule
  gradient: Callable

  def cost(self, gradients: float = 1.0, passes: float = 0.0) -> LocalCost:
    """What `FederatedAlgorithm.local_cost` should be.

    Args:
      gradients: of a batch, in each local step.
      passes: gradients of all of the client's examples beside the steps; a
        forward pass counts `local_cost.FORWARD`.
    """
    return LocalCost(
        gradients, lambda sizes: passes * self.planned_pass(sizes))


def local_training(
    model: Model,
    optimizer: optax.GradientTransformation,
    *,
    epochs: float = 1,
    steps: int | None = None,
    batch_size: int | None = 10,
    stragglers: float = 0.0,
    proximal: float = 0.0,
    weighting: str = 'examples',
    client_schedule: Schedule | None = None,
    micro_batch_size: int = gradients.MICRO_BATCH_SIZE,
    restrict: Restriction | None = None,
) -> LocalTraining:
  """Builds local SGD with any optax optimizer, started anew in every round.

  Args:
    model: what is trained.
    optimizer: the client optimizer.
    epochs: local epochs E; 0.5 is half of the local data.
    steps: local steps, instead of epochs.
    batch_size: local batch size B; None is infinity, the whole local data.
    stragglers: the probability that a client does a random part of its work
      only; see `local_work`.
    proximal: mu of FedProx (Li et al., 2020, equation 2): the local loss has
      mu / 2 |w - w_t|^2 added to it.
    weighting: 'examples' weighs an update by the client's number of examples,
      'uniform' all the same; a client without examples counts nowhere.
    client_schedule: round (from 0) -> factor on every local step, not
      negative; None is 1.
    micro_batch_size: most examples whose gradient is taken at once where
      batch_size is None.
    restrict: what of the model is trained and sent, such as
      `restrictions.low_rank(4)`; None is all of it. `correct` and the proximal
      term are of the whole model's gradient, which is then restricted.

  Raises:
    ValueError: an argument is out of range.
  """
  _check_restriction(restrict)
  optimizer_checks.check('client_optimizer', optimizer)
  checks.positive_int('micro_batch_size', micro_batch_size)
  checks.one_of('weighting', weighting, WEIGHTINGS)
  checks.non_negative('proximal', proximal)
  work = local_work(epochs=epochs, steps=steps, batch_size=batch_size,
                    stragglers=stragglers)
  optimizer_checks.check_factors('client_schedule', client_schedule)
  scale_of = client_schedule or (lambda round_number: 1.0)
  is_proximal = checks.is_traced(proximal) or proximal > 0

  def run(variables: Variables, data: ClientData, key, round_number, *,
          correct=None, **options):
    start = variables.params
    work.planned(np.array([data.max_size]))  # Raises if they are too many.

    def corrected(grads: PyTree, params: PyTree) -> PyTree:
      if is_proximal:
        grads = jax.tree.map(
            lambda g, p, s: g + proximal * (p - s), grads, params, start)
      return correct(grads, params) if correct else grads

    sgd = functools.partial(
        run_sgd, model, optimizer, data=data, key=key, batch_size=batch_size,
        num_steps=work.num_steps(data.size, key),
        by_size=work.by_size, step_scale=scale_of(round_number),
        micro_batch_size=micro_batch_size)
    if restrict is None:
      return sgd(variables=variables, correct=corrected, **options)
    return _restricted(restrict, sgd, variables, key, corrected, **options)

  def gradient(variables: Variables, data: ClientData, key):
    return gradients.local_gradient(
        model, variables, data, key, micro_batch_size)

  def num_steps(data: ClientData, key) -> jax.Array:
    most = work.num_steps(data.size, key)
    return most if data.work is None else jax.numpy.minimum(most, data.work)

  def message(local: LocalState, start: Variables, data: ClientData):
    sent = difference(local.variables, start, WEIGHTINGS[weighting](data))
    if local.travels is None:
      return sent
    return sent._replace(**local.travels._asdict())

  return LocalTraining(
      run, num_steps, WEIGHTINGS[weighting], message, work.planned,
      work.in_pass, scale_of, gradient)


def _restricted(
    restrict: Restriction, sgd: Callable[..., LocalState],
    variables: Variables, key, correct,
    change_gradient=lambda gradient: gradient, **options,
) -> LocalState:
  """Local SGD in the coordinates of a restriction.

  Args:
    restrict: of arrays.
    sgd: `run_sgd` of the client, without what follows.
    variables: where it begins.
    key: the client's in this round.
    correct: as in `run_sgd`, of the whole model's gradient.
    change_gradient: likewise.
    **options: none, since they are of the whole model.

  Raises:
    ValueError: there are options, such as an optimizer state to start from.
  """
  if options:
    raise ValueError(
        f'restrict={restrict.name} does not fit an algorithm that gives '
        f'{", ".join(options)} to its local training.')
  entered = restriction.enter(
      restrict, variables, random.named(key, 'restrict'))

  def in_coordinates(gradient):
    whole = change_gradient(gradient)

    def coordinate_gradient(at: Variables, batch):
      params = entered.expand(at.params)
      grads, state, metrics = whole(at._replace(params=params), batch)
      grads = correct(*map(precision.wide, (grads, params)))
      return entered.pull(grads), state, metrics
    return coordinate_gradient

  local = sgd(variables=entered.start, change_gradient=in_coordinates)
  return local._replace(
      variables=local.variables._replace(
          params=entered.expand(local.variables.params)),
      travels=entered.travels)


def _check_restriction(restrict: Restriction | None) -> None:
  if restrict is None:
    return
  if not isinstance(restrict, Restriction):
    raise ValueError('restrict must be a restriction of training, such as '
                     f'low_rank(4), got {checks.shown(restrict)}.')
  if restrict.trained is None:
    raise ValueError(
        f'restrict={restrict.name} gives the clients of an algorithm a '
        'submodel: it is an argument of the algorithm\'s builder, which must '
        'be decorated with takes_training.')

"""Makes a `Model` of a flax nnx module."""

import contextvars
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx
from jax import numpy as jnp

from fedjax_sim.core import random, types
from fedjax_sim.models import adapters, losses

# The row mask of the call that is being traced, for the BatchNorm layers.
_ROWS: contextvars.ContextVar[jax.Array] = contextvars.ContextVar('rows')


def from_nnx(
    build: Callable[..., nnx.Module],
    *,
    loss: adapters.Loss = losses.cross_entropy,
    metrics: adapters.Metrics = None,
    preprocess: adapters.Preprocess = adapters.as_float,
    fast_convolutions: bool = True,
) -> types.Model:
  """Makes a `Model` of a function, or class, that builds a flax nnx module.

  `nnx.Param` variables become the parameters, random state (dropout's keys
  and counts) is left out, and all other variables (`nnx.BatchStat`) become the
  model_state, which changes only in training. Both are nested dicts by
  attribute names; places in lists are keyed '0', '1', …

  At every call the module is put together anew, in the mode that `train()` or
  `eval()` sets, with random streams from `key` and their names. Its
  `__call__(self, x)` returns one array [B, ...], and is handed as keywords
  what it names among `train`, `training`, `deterministic`,
  `use_running_average` (both: not train), `mask` (bool [B], the rows that are
  not padding) and `key`.

  Every `nnx.BatchNorm` inside is told which rows are padding, so that they
  don't enter its statistics; other layers that mix rows have to take `mask`.
  A row's dropout does not depend on how many rows of padding follow.

  Args:
    build: `(rngs: nnx.Rngs) -> nnx.Module`, such as a class `MLP` or
      `lambda rngs: MLP(784, 200, rngs=rngs)`. It is called once here, for the
      shapes alone, and at every `init`.
    loss: as in `Model`, or a name such as 'mse'.
    metrics: as in `from_functions`.
    preprocess: as in `from_functions`.
    fast_convolutions: as in `make_model`: convolutions and pooling are replaced
      by faster ones of the same numbers.

  Raises:
    ValueError: if `build` returns no nnx module, or one that needs another
      argument. `init` raises one that names the shape of inputs that do not
      fit.
  """
  make = functools.partial(_build, build)
  names, graph, spec = _describe(make)

  def init(key, inputs):
    del inputs  # An nnx module knows its shapes.
    module = make(random.named(key, 'params'))
    return _variables(spec, nnx.state(module))

  def apply(params, model_state, inputs, *, key, train, mask):
    values = {**_flat(params), **_flat(model_state)}
    module = nnx.merge(graph, _state(spec, values, key))
    module.train() if train else module.eval()
    token = _ROWS.set(mask)
    try:
      outputs = module(inputs, **adapters.call_options(
          names, key=key, train=train, mask=mask))
    finally:
      _ROWS.reset(token)
    return outputs, _variables(spec, nnx.state(module)).model_state

  def to_nnx(variables):
    module = _plain(build, 0)  # Whose BatchNorm layers are flax's own.
    values = {**_flat(variables.params), **_flat(variables.model_state)}
    nnx.update(module, _state(
        {path: kind for path, kind in spec.items()
         if not isinstance(kind, nnx.RngState)}, values, None))
    module.eval()
    return module

  return adapters.make_model(
      init, apply, loss=loss, metrics=metrics, preprocess=preprocess,
      fast_convolutions=fast_convolutions)._replace(nnx=to_nnx)


def variables_of(module: nnx.Module) -> types.Variables:
  """A module's variables, as those of a model that is made of such a one."""
  state = nnx.state(module)
  return _variables(dict(nnx.to_flat_state(state)), state)


def _build(build, key) -> nnx.Module:
  """Calls `build`, and makes its BatchNorm layers aware of the row mask."""
  module = _plain(build, key)
  for _, node in nnx.iter_graph(module):
    if isinstance(node, nnx.BatchNorm):
      node.__class__ = _masked(type(node))
  return module


def _plain(build, key) -> nnx.Module:
  """Calls `build`."""
  rngs = nnx.Rngs(key)
  call = build.__init__ if isinstance(build, type) else build
  by_name = 'rngs' in inspect.signature(call).parameters
  module = build(rngs=rngs) if by_name else build(rngs)
  if not isinstance(module, nnx.Module):
    raise ValueError(
        'build must return a flax.nnx.Module, got '
        f'{type(module).__name__}.')
  return module


@functools.cache
def _masked(kind: type[nnx.BatchNorm]) -> type[nnx.BatchNorm]:
  """A subclass of a BatchNorm layer that leaves padding rows out."""
  class MaskedBatchNorm(kind):

    def __call__(self, x, *args, mask=None, **kwargs):
      mask = adapters.statistics_mask(_ROWS.get(), x, mask)
      return super().__call__(x, *args, mask=mask, **kwargs)

  return MaskedBatchNorm


def _describe(make):
  """The options, static graph and variables (path -> shape) of a module."""
  module = nnx.eval_shape(lambda: make(0))
  names = adapters.accepted_names(
      f'{type(module).__name__}.__call__', module.__call__, given=1)
  graph, state = nnx.split(module)
  return names, graph, dict(nnx.to_flat_state(state))


def _variables(spec, state) -> types.Variables:
  """Sorts a module's variables; those that are new since init are dropped."""
  values = dict(nnx.to_flat_state(state))
  params, rest = {}, {}
  for path, kind in spec.items():
    if not isinstance(kind, nnx.RngState):
      _insert(params if isinstance(kind, nnx.Param) else rest, path,
              _value(values[path]))
  return types.Variables(params, rest)


def _state(spec, values, key):
  """The inverse of `_variables`, with random state made from `key`."""
  state = {}
  for path, kind in spec.items():
    value = (_random_state(path, kind, key) if isinstance(kind, nnx.RngState)
             else values[tuple(map(str, path))])
    state[path] = (kind.replace(value) if isinstance(kind, nnx.Variable)
                   else value)
  return nnx.from_flat_state(state)


def _random_state(path, kind, key):
  shape = _value(kind).shape
  if isinstance(kind, nnx.RngCount):
    return jnp.zeros(shape, _value(kind).dtype)
  # Without a key the mode is eval, where nothing is drawn.
  key = jax.random.key(0) if key is None else key
  key = random.named(key, '/'.join(map(str, path)))
  return jax.random.split(key, shape) if shape else key


def _value(variable) -> Any:
  # A Variable is a tree of one leaf; so is a bare array among the attributes.
  value, = jax.tree.leaves(variable)
  return value


def _insert(tree: dict, path, value):
  *parents, last = map(str, path)
  for name in parents:
    tree = tree.setdefault(name, {})
  tree[last] = value


def _flat(tree: Mapping, path=()) -> dict:
  if not isinstance(tree, Mapping):
    return {path: tree}
  return {place: value for name, branch in tree.items()
          for place, value in _flat(branch, (*path, name)).items()}

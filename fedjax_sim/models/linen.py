"""Makes a `Model` of a flax linen module."""

from collections.abc import Callable

import jax
from flax import core as flax_core
from flax import linen as nn
from jax import numpy as jnp

from fedjax_sim.core import random, types
from fedjax_sim.models import adapters, losses


def from_linen(
    module: nn.Module,
    *,
    loss: adapters.Loss = losses.cross_entropy,
    metrics: adapters.Metrics = None,
    preprocess: adapters.Preprocess = adapters.as_float,
    fast_convolutions: bool = True,
) -> types.Model:
  """Makes a `Model` of a flax linen module.

  The module's `__call__(self, x)` returns one array [B, ...]. What it names
  among `train`, `training`, `deterministic`, `use_running_average` (both: not
  train) and `mask` (bool [B], the rows that are not padding), it is handed as
  keywords. The collection 'params' becomes the parameters, all others
  ('batch_stats') the model_state, which changes only in training; collections
  that there are not at init ('intermediates') are dropped.

  Every `nn.BatchNorm` inside is told which rows are padding, so that they
  don't enter its statistics; other layers that mix rows have to take `mask`.
  The random stream 'dropout' comes from `key`, in training only; a row's
  dropout does not depend on how many rows of padding follow.

  Args:
    module: an instance, such as `MLP(hidden=200)`.
    loss: as in `Model`, or a name such as 'mse'.
    metrics: as in `from_functions`.
    preprocess: as in `from_functions`.
    fast_convolutions: as in `make_model`: convolutions and pooling are replaced
      by faster ones of the same numbers.

  Raises:
    ValueError: if `module` is no linen module, or needs another argument.
      `init` raises one that names the shape of inputs that do not fit.
  """
  if not isinstance(module, nn.Module):
    hint = ', a class: make an instance' if isinstance(module, type) else ''
    raise ValueError(
        f'module must be a flax.linen.Module, got {module!r}{hint}.')
  names = adapters.accepted_names(
      f'{type(module).__name__}.__call__', module.__call__, given=1)

  def options(key, train, mask):
    return adapters.call_options(names, key=key, train=train, mask=mask)

  def init(key, inputs):
    mask = jnp.ones((jax.tree.leaves(inputs)[0].shape[0],), bool)
    variables = module.init(
        {'params': random.named(key, 'params'),
         'dropout': random.named(key, 'dropout')},
        inputs, **options(key, False, mask))
    state = flax_core.unfreeze(flax_core.meta.unbox(variables))
    return types.Variables(state.pop('params', {}), state)

  def apply(params, model_state, inputs, *, key, train, mask):
    rngs = {'dropout': key} if train and key is not None else {}
    mutable = list(model_state) if train else []
    with nn.intercept_methods(_masking(mask)):
      outputs, state = module.apply(
          {'params': params, **model_state}, inputs, rngs=rngs,
          mutable=mutable, **options(key, train, mask))
    return outputs, {**model_state, **flax_core.unfreeze(state)}

  model = adapters.make_model(
      init, apply, loss=loss, metrics=metrics, preprocess=preprocess,
      fast_convolutions=fast_convolutions)
  return model._replace(linen=lambda variables: (
      module, {'params': variables.params, **variables.model_state}))


def _masking(mask: jax.Array) -> Callable:
  """An interceptor that hands the row mask to every BatchNorm layer."""
  def interceptor(layer, args, kwargs, context):
    if (isinstance(context.module, nn.BatchNorm)
        and context.method_name == '__call__'):
      x = args[0] if args else kwargs['x']
      own = kwargs.get('mask')
      kwargs = {**kwargs, 'mask': adapters.statistics_mask(mask, x, own)}
    return layer(*args, **kwargs)
  return interceptor

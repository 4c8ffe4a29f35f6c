"""What makes a `Model` of plain functions, and what all adapters share."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core import argument_kinds, checks, random, trees, types
from fedjax_sim.core.types import PyTree
from fedjax_sim.models import fast_apply, losses, named_metrics

Preprocess = Callable[..., PyTree] | None
# As in `Model`, or by name.
Loss = Callable[..., jax.Array] | str
# As in `Model` or by name, several such, or None for those that fit the loss.
Metrics = (Callable[..., types.MetricSums] | str
           | Sequence[Callable[..., types.MetricSums] | str] | None)


def as_float(inputs: PyTree) -> PyTree:
  """uint8 pixels as float32 in [0, 1]; any other dtype unchanged."""
  def convert(x):
    return x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x
  return jax.tree.map(convert, inputs)


def centered(inputs: PyTree) -> PyTree:
  """uint8 pixels as float32 in [-0.5, 0.5]; any other dtype unchanged.

  So TensorFlow's MNIST tutorial of 2015 had them. FedAvg's rounds to target on
  MNIST come near the paper's with these, and are far fewer with `as_float`: see
  docs/paper.md.
  """
  def convert(x):
    return as_float(x) - 0.5 if x.dtype == jnp.uint8 else x
  return jax.tree.map(convert, inputs)


def standardized(mean: float, deviation: float) -> Callable[[PyTree], PyTree]:
  """`as_float`, then minus `mean` and divided by `deviation`."""
  return lambda inputs: jax.tree.map(
      lambda x: (x - mean) / deviation, as_float(inputs))


@argument_kinds.checked
def from_functions(
    init: Callable[..., PyTree],
    apply: Callable[..., jax.Array],
    *,
    loss: Loss = losses.cross_entropy,
    metrics: Metrics = None,
    preprocess: Preprocess = as_float,
    fast_convolutions: bool = True,
) -> types.Model:
  """Makes a `Model` of two pure functions; its model_state is `{}`.

  Args:
    init: `(key, inputs [B, ...]) -> params`, a PyTree of float arrays.
    apply: `(params, inputs [B, ...]) -> outputs [B, ...]`. What it names among
      `key`, `train`, `deterministic` (not train) and `mask` (bool [B]), it is
      handed as keywords.
    loss: as in `Model`, or a name such as 'mse'.
    metrics: as in `Model`, a name such as 'accuracy', or a list of these; None
      is `default_metrics`: those that mean something for the loss.
    preprocess: `(inputs [B, ...]) -> inputs [B, ...]`, applied first; None
      leaves them as they are. What it names among the same options it is
      handed, so that it can augment in training. Its `key` is its own, one for
      a batch: it should fold in a row's number for that row's draws, which
      then don't depend on how many rows there are.
    fast_convolutions: as in `make_model`.

  Raises:
    ValueError: if `apply` or `preprocess` needs an argument that nobody could
      give it.
  """
  names = accepted_names('apply', apply, given=2)

  def apply_model(params, model_state, inputs, *, key, train, mask):
    options = call_options(names, key=key, train=train, mask=mask)
    return apply(params, inputs, **options), model_state

  return make_model(
      lambda key, inputs: types.Variables(init(key, inputs), {}), apply_model,
      loss=loss, metrics=metrics, preprocess=preprocess,
      fast_convolutions=fast_convolutions)


def make_model(
    init: Callable[..., types.Variables],
    apply: Callable[..., tuple[jax.Array, PyTree]],
    *,
    loss: Loss,
    metrics: Metrics,
    preprocess: Preprocess,
    fast_convolutions: bool = True,
) -> types.Model:
  """Adds to an adapter's two functions what every `Model` promises.

  Its `init` sees zeros in the place of the inputs, and fails at once if the
  model does not fit them. Its `apply` fills in `key=None`, `train=False` and a
  mask of all rows where they are left out, and keeps the old state where a
  batch holds no real row.

  Args:
    init: `(key, inputs) -> Variables`, with preprocessed inputs.
    apply: as `Model.apply`, with preprocessed inputs; the arguments are never
      left out.
    loss: as in `from_functions`, like the next two.
    metrics: which ones.
    preprocess: what comes first.
    fast_convolutions: whether `apply` is run with this package's convolutions
      and pooling in the place of lax's, wherever they are called, which gives
      the same numbers up to the order of summation; see `fast_apply`. False
      leaves `apply` as it is.
  """
  if not isinstance(fast_convolutions, bool):
    raise ValueError(
        f'fast_convolutions must be True or False, got {fast_convolutions!r}.')
  prepare = _preparation(preprocess)

  def prepared_apply(params, model_state, inputs, **options):
    return apply(params, model_state, prepare(inputs, **options), **options)

  if fast_convolutions:
    prepared_apply = fast_apply.with_fast_forms(prepared_apply, static='train')

  def init_model(key, inputs):
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs)
    variables = _explained(zeros, lambda: init(key, prepare(
        zeros, key=key, train=False, mask=_all_rows(zeros))))
    _check_floats(variables)
    _explained(zeros, lambda: jax.eval_shape(
        lambda *args: apply_model(*args, key=key, train=True),
        variables.params, variables.model_state, zeros))
    return variables

  def apply_model(
      params, model_state, inputs, *, key=None, train=False, mask=None):
    if mask is None:
      mask = _all_rows(inputs)
    options = {'key': key, 'train': train, 'mask': mask}
    outputs, state = prepared_apply(params, model_state, inputs, **options)
    _check_rows(outputs, len(mask))
    if not train or not jax.tree.leaves(model_state):
      return outputs, model_state
    return outputs, _kept_if_empty(mask, state, model_state)

  return with_loss(
      types.Model(init_model, apply_model, loss, None), loss, metrics)


def with_loss(
    model: types.Model, loss: Loss | None = None,
    metrics: Metrics = None,
) -> types.Model:
  """The model with another loss, or with other metrics.

  Args:
    model: any.
    loss: as in `from_functions`; None keeps the model's.
    metrics: as in `from_functions`; None keeps the model's own, and gives one
      that has the default metrics those of the new loss. Those with an option
      `ignore_label` that is not set take the loss's.

  Raises:
    ValueError: one of them is no function and no name, or a loss is among the
      metrics.
  """
  loss = _named_loss(model.loss if loss is None else loss)
  if metrics is None:
    default = model.metrics is None or hasattr(model.metrics, 'is_default')
    chosen = named_metrics.default_metrics(loss) if default else model.metrics
  else:
    several = isinstance(metrics, list | tuple)
    found = [_metric(one) for one in (metrics if several else [metrics])]
    chosen = named_metrics.all_of(*found) if several else found[0]
    chosen = named_metrics.ignoring(chosen, loss)
  for name, value in (('loss', loss), ('metrics', chosen)):
    if not callable(value):
      raise ValueError(f'{name} must be a function of outputs and examples, '
                       f'got {value!r}.')
  named_metrics.check_labels(chosen, loss)
  return model._replace(
      loss=loss, metrics=chosen,
      higher_is_better=getattr(chosen, 'higher_is_better', {}))


def _named_loss(loss: Any) -> Any:
  """A loss that is given by name; ValueError if there is none of this name."""
  if not isinstance(loss, str):
    return loss
  checks.one_of('loss', loss, losses.LOSSES)
  return losses.LOSSES[loss]


def _metric(one: Any) -> Any:
  """A metric that is given by name or as a function.

  Raises:
    ValueError: it is a loss, or nothing that can be called.
  """
  if isinstance(one, str):
    checks.one_of('metrics', one, named_metrics.METRICS)
    return named_metrics.METRICS[one]
  if hasattr(one, 'labels') and hasattr(one, 'counts'):
    same = one.__name__ in named_metrics.METRICS
    mend = (f' The metric is models.metrics.{one.__name__}, or '
            f'{one.__name__!r}.' if same else '')
    raise ValueError(
        'metrics must be functions that return {name: (sum [B], count [B])}, '
        f'got {one.__name__}, which is a loss.{mend}')
  if not callable(one):
    raise ValueError('metrics must be names or functions of outputs and '
                     f'examples, got {checks.shown(one)}.')
  return one


def _all_rows(inputs: PyTree) -> jax.Array:
  return jnp.ones((jax.tree.leaves(inputs)[0].shape[0],), bool)


def _preparation(preprocess: Preprocess) -> Callable[..., PyTree]:
  """`preprocess` as a function that takes all options, and a key of its own."""
  if preprocess is None:
    return lambda inputs, **options: inputs
  names = accepted_names('preprocess', preprocess, given=1)

  def prepare(inputs, *, key, train, mask):
    if 'key' in names and key is not None:
      # Else a model's dropout would draw the same bits.
      key = random.named(key, 'preprocess')
    return preprocess(
        inputs, **call_options(names, key=key, train=train, mask=mask))

  return prepare


def accepted_names(
    title: str, function: Callable, given: int
) -> frozenset[str]:
  """Which of the options of `call_options` a function takes.

  Args:
    title: what to call the function in an error.
    function: looked at, not called.
    given: how many arguments it is handed by position.
  """
  checks.function(title, function, f'of {given} arguments or more')
  parameters = list(inspect.signature(function).parameters.values())
  variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
  names = set()
  for parameter in parameters[given:]:
    if parameter.name in _OPTIONS:
      names.add(parameter.name)
    elif (parameter.default is inspect.Parameter.empty
          and parameter.kind not in variadic):
      raise ValueError(
          f'{title} needs an argument {parameter.name!r}; beside its first '
          f'{given} it can be handed only {", ".join(sorted(_OPTIONS))}.')
  return frozenset(names)


# What a user's function can ask for by naming it.
_OPTIONS = {
    'key': lambda key, train, mask: key,
    'train': lambda key, train, mask: train,
    'training': lambda key, train, mask: train,
    'deterministic': lambda key, train, mask: not train,
    'use_running_average': lambda key, train, mask: not train,
    'mask': lambda key, train, mask: mask,
}


def call_options(
    names: frozenset[str], *, key: jax.Array, train: bool, mask: jax.Array
) -> dict[str, Any]:
  """The values of the options that `accepted_names` found."""
  return {name: _OPTIONS[name](key, train, mask) for name in names}


def statistics_mask(
    mask: jax.Array, x: jax.Array, own: jax.Array | None
) -> jax.Array:
  """The entries of `x` that a BatchNorm layer takes its statistics over.

  Where a batch holds no real row all rows count, since the mean over none is
  NaN; `make_model` keeps the state of such a batch from changing.

  Args:
    mask: bool [B], the real rows.
    x: [B, ..., channels], the layer's inputs.
    own: a mask from the user's module, of a shape that broadcasts to that of
      `x`, or None.

  Returns:
    bool [B, 1, ..., 1], or of the shape of `x` if there is a mask of its own.
  """
  if x.shape[0] != mask.shape[0]:
    raise ValueError(
        f'BatchNorm got inputs of shape {x.shape} in a batch of '
        f'{mask.shape[0]}. Their first axis must be the batch: in a merged one '
        'it is not known which rows are padding.')
  rows = (mask | ~jnp.any(mask)).reshape(-1, *(1,) * (x.ndim - 1))
  return rows if own is None else rows & jnp.broadcast_to(own, x.shape)


def _kept_if_empty(mask, new, old):
  if jax.tree.structure(new) != jax.tree.structure(old):
    raise ValueError(
        'the model changed the structure of its state from '
        f'{jax.tree.structure(old)} to {jax.tree.structure(new)}.')
  new = jax.tree.map(lambda x, y: x.astype(y.dtype), new, old)
  return trees.where(jnp.any(mask), new, old)


def _check_rows(outputs, rows):
  if not isinstance(outputs, jax.Array | np.ndarray):
    raise ValueError(
        'a model must return one array of outputs, got '
        f'{type(outputs).__name__}.')
  if outputs.shape[:1] != (rows,):
    raise ValueError(
        f'a model must return outputs of shape [{rows}, ...] for {rows} '
        f'examples, got {list(outputs.shape)}.')


def _check_floats(variables: types.Variables):
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    dtype = getattr(leaf, 'dtype', type(leaf))
    if not jnp.issubdtype(dtype, jnp.floating):
      raise ValueError(
          'parameters and model state must be float arrays, since they are '
          f'averaged, got {dtype} in {jax.tree_util.keystr(path)}.')


def _explained(inputs: PyTree, call: Callable[[], Any]) -> Any:
  """Runs `call`; whatever is wrong, the error names the inputs' shapes."""
  try:
    return call()
  except Exception as error:  # Flax and JAX raise many types.
    shapes = jax.tree.map(lambda x: f'{x.dtype}{list(x.shape)}', inputs)
    raise ValueError(
        f'the model does not work on inputs {shapes}: {error}') from error

"""Whether a model computes each row of a batch by itself.

Batch statistics without a state, a softmax or a centering over the batch, a
loss that relates examples to each other: what such a model gives for one row
depends on the others, so its batch must not be cut, and padding must be left
out. That most models do nothing of the kind can be proved (`row_flow`). Others
are tried out on a few rows of made-up numbers, with made-up weights: once as
they are, once with other numbers in one row, which is then padding or not.
"""

import weakref
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.clients import blame, row_flow
from fedjax_sim.core.types import Model, PyTree, Variables

_ROWS = 4
_SEEN: 'weakref.WeakKeyDictionary' = weakref.WeakKeyDictionary()


class Findings(NamedTuple):
  """What was found out about a model in training.

  Attributes:
    mixes: whether a row's loss depends on another row.
    leaks: whether it, or the model's state, depends on a row that is padding.
  """

  mixes: bool
  leaks: bool


def are_independent(
    model: Model, variables: Variables, examples: PyTree
) -> bool:
  """Whether a batch may be cut anywhere.

  Args:
    model: the model.
    variables: arrays or their shapes; those of a model with state are never.
    examples: PyTree [E, ...], arrays or their shapes.

  Raises:
    ValueError: rows depend on padding.
  """
  if jax.tree.leaves(variables.model_state):
    return False
  return not checked(model, variables, examples).mixes


def checked(model: Model, variables: Variables, examples: PyTree) -> Findings:
  """What is found out, once for each model.

  Raises:
    ValueError: rows depend on padding.
  """
  by_loss = _SEEN.setdefault(model.apply, {})
  loss = getattr(model.loss, 'unweighted', model.loss)
  if loss not in by_loss:
    model = model._replace(loss=loss)
    if is_proved(model, variables, examples):
      by_loss[loss] = Findings(mixes=False, leaks=False)
    else:
      by_loss[loss] = try_out(model, variables, examples)
  if by_loss[loss].leaks:
    raise ValueError(
        'the loss of an example, or the model state, changes with what stands '
        'in rows of padding: the model or its loss relates the rows of a batch '
        'to each other. Let it take mask (bool [B]), and leave out the rows '
        'where it is False.')
  return by_loss[loss]


def _losses(model: Model) -> Callable[..., tuple[jax.Array, PyTree]]:
  """`(variables, examples, mask) -> (losses [B], state)`, in training."""
  def losses(variables, examples, mask):
    with blame.training('the model', examples):
      outputs, state = model.run(
          variables, examples['x'], key=jax.random.key(0), train=True,
          mask=mask)
    with blame.training('the loss', examples):
      return model.example_losses(outputs, examples, mask)[0], state
  return losses


def is_proved(model: Model, variables: Variables, examples: PyTree) -> bool:
  """Whether rows are seen to be independent from how losses are computed."""
  if jax.tree.leaves(variables.model_state):
    return False
  batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(
      (row_flow.SIZE, *x.shape[1:]), x.dtype), examples)
  shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables)
  mask = jax.ShapeDtypeStruct((row_flow.SIZE,), bool)
  try:
    row_flow.check(
        _losses(model), shapes, batch, mask, data=(False, True, True))
  except row_flow.UnclearError:
    return False
  return True


def try_out(model: Model, variables: Variables, examples: PyTree) -> Findings:
  """Computes a few losses; see the module.

  Args:
    model: the model.
    variables: arrays or their shapes.
    examples: PyTree [E, ...], arrays or their shapes.
  """
  rng = np.random.default_rng(0)
  weights = jax.tree.map(lambda x: _weights(rng, x), variables)
  batch = jax.tree.map(lambda x: _numbers(rng, x), examples)
  of_last, of_first = (
      jax.tree.map(lambda x, i=i: _with_other_row(x, i), batch)
      for i in (-1, 0))
  everything = np.ones(_ROWS, bool)
  without = np.arange(_ROWS) < _ROWS - 1
  with jax.ensure_compile_time_eval():
    # As fast to compile as can be.
    compute = jax.jit(_losses(model)).lower(weights, batch, everything).compile(
        {'xla_backend_optimization_level': 0,
         'xla_llvm_disable_expensive_passes': True})
    loss, last, first = (np.asarray(compute(weights, x, everything)[0])
                         for x in (batch, of_last, of_first))
    padded, other = (jax.device_get(compute(weights, x, without))
                     for x in (batch, of_last))
  real = lambda losses, state: jax.tree.leaves((losses[:-1], state))
  return Findings(
      mixes=not (_alike(loss[:-1], last[:-1]) and _alike(loss[1:], first[1:])),
      leaks=not all(map(_alike, real(*padded), real(*other))))


def _weights(rng: np.random.Generator, x) -> np.ndarray:
  """Numbers of a size that neither grows nor dies out from layer to layer."""
  scale = 1 / np.sqrt(max(1, np.prod(x.shape[:-1])))
  return np.asarray(
      scale * rng.standard_normal(x.shape, np.float32)).astype(x.dtype)


def _numbers(rng: np.random.Generator, x) -> np.ndarray:
  """A few rows: 0 or 1 of whole numbers, which may be tokens or labels."""
  shape = (_ROWS, *x.shape[1:])
  if jnp.issubdtype(x.dtype, jnp.inexact):
    return rng.uniform(0.1, 0.9, shape).astype(x.dtype)
  high = 256 if x.dtype == np.uint8 and len(shape) > 2 else 2
  return rng.integers(0, high, shape).astype(x.dtype)


def _with_other_row(x: np.ndarray, place: int) -> np.ndarray:
  """The same with other numbers of the same range in one row."""
  kind = np.float32 if jnp.issubdtype(x.dtype, jnp.inexact) else np.int32
  top = 255 if x.dtype == np.uint8 and x.ndim > 2 else 1
  changed = x.copy()
  changed[place] = (top - x[place].astype(kind)).astype(x.dtype)
  return changed


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
  size = np.max(np.abs(a), initial=1e-30, where=np.isfinite(a))
  return np.allclose(a, b, rtol=1e-5, atol=1e-6 * size, equal_nan=True)

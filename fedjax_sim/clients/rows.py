"""Whether a model computes each row of a batch by itself.

Batch statistics without a state, a softmax or a centering over the batch, a
loss that relates examples to each other: what such a model gives for one row
depends on the others, so its batch must not be cut, and padding must be left
out. That most models do nothing of the kind can be proved (`row_flow`). Others
are tried out on a few rows of made-up numbers, with made-up weights: as they
are, with other numbers in one row, which is then padding or not, and in batches
of other sizes.
"""

import weakref
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.clients import alike_draws, batch_size, blame, row_flow
from fedjax_sim.core.types import Model, PyTree, Variables

_ROWS = 4
_MANY_ROWS = 29
_SEEN: 'weakref.WeakKeyDictionary' = weakref.WeakKeyDictionary()


class Findings(NamedTuple):
  """What was found out about a model in training.

  Attributes:
    mixes: whether a row's loss depends on another row.
    leaks: whether it, or the model's state, depends on a row that is padding.
    counts: whether it depends on the size of the batch, with padding.
  """

  mixes: bool
  leaks: bool
  counts: bool = False


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
  if by_loss[loss].counts:
    raise ValueError(
        'the loss of an example changes with the size of its batch, which '
        'counts padding: the model or its loss uses the number of rows, '
        'len(x). Leave it out, for means over a batch are taken here; or take '
        'mask (bool [B]), whose sum is the number of examples.')
  return by_loss[loss]


def _losses(
    model: Model, make_key: Callable[[], jax.Array] = lambda: jax.random.key(0),
) -> Callable[..., tuple[jax.Array, PyTree]]:
  """`(variables, examples, mask) -> (losses [B], state)`, in training."""
  def losses(variables, examples, mask):
    with blame.training('the model', examples):
      outputs, state = model.run(
          variables, examples['x'], key=make_key(), train=True, mask=mask)
    with blame.training('the loss', examples):
      return model.example_losses(outputs, examples, mask)[0], state
  return losses


def is_proved(model: Model, variables: Variables, examples: PyTree) -> bool:
  """Whether rows are seen to be independent from how losses are computed."""
  if jax.tree.leaves(variables.model_state):
    return False
  losses = jax.jit(_losses(model))  # Traced once for each size.
  try:
    row_flow.check(losses, *_shapes(variables, examples, row_flow.SIZE),
                   data=(False, True, True))
  except row_flow.UnclearError:
    return False
  return not _size_may_matter(losses, variables, examples)


def _size_may_matter(
    losses: Callable, variables: Variables, examples: PyTree) -> bool:
  return batch_size.may_matter(lambda size: jax.make_jaxpr(losses)(
      *_shapes(variables, examples, size)))


def _shapes(variables: Variables, examples: PyTree, size: int) -> tuple:
  """Of the arguments of `_losses`, with a batch of some size."""
  shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)
  return (jax.tree.map(shape, variables),
          jax.tree.map(lambda x: jax.ShapeDtypeStruct(
              (size, *x.shape[1:]), x.dtype), examples),
          jax.ShapeDtypeStruct((size,), bool))


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
  others = [[_with_other_row(batch, place, how) for how in _OTHERS]
            for place in (-1, 0)]
  everything = np.ones(_ROWS, bool)
  without = np.arange(_ROWS) < _ROWS - 1
  with jax.ensure_compile_time_eval():
    compute = _compiled(_losses(model), weights, batch, everything)
    loss = compute(batch, everything)[0]
    last, first = ([compute(x, everything)[0] for x in changed]
                   for changed in others)
    # Numbers that the model is not made for prove nothing as padding.
    fit = [x for x, losses in zip(others[0], last, strict=True)
           if np.isfinite(losses[-1])]
    padded, *other = (compute(x, without) for x in (batch, *fit))
    counts, alone = _by_size(model, weights, batch, loss)
  real = lambda losses, state: jax.tree.leaves((losses[:-1], state))
  leaks = not all(_alike(a, b) for x in other for a, b in zip(
      real(*padded), real(*x), strict=True))
  return Findings(
      mixes=alone or not (all(_alike(loss[:-1], x[:-1]) for x in last)
                          and all(_alike(loss[1:], x[1:]) for x in first)),
      leaks=leaks, counts=counts and not leaks)


def _compiled(function: Callable, weights: PyTree, *args) -> Callable:
  # As fast to compile as can be.
  compute = jax.jit(function).lower(weights, *args).compile(
      {'xla_backend_optimization_level': 0,
       'xla_llvm_disable_expensive_passes': True})
  return lambda *args: jax.device_get(compute(weights, *args))


def _by_size(
    model: Model, weights: Variables, batch: PyTree, loss: np.ndarray
) -> tuple[bool, bool]:
  """Whether losses change with many rows of padding, and of a row alone.

  What a model draws may depend on the size, which is no fault of the model: one
  that draws is computed with `alike_draws`.
  """
  if not _size_may_matter(_losses(model), weights, batch):
    return False, False
  take = lambda index: jax.tree.map(lambda x: x[index], batch)
  run = lambda batch, mask, *key: _compiled(
      _losses(model, *key), weights, batch, mask)(batch, mask)[0]
  everything, key, place = np.ones(_ROWS, bool), (), _ROWS - 1
  if not _alike(loss, run(batch, everything, lambda: jax.random.key(1))):
    # A row may have a key for its place, so the one alone must keep it.
    key, place = (alike_draws.key,), 0
    try:
      loss = run(batch, everything, *key)
    except Exception:  # Of a model that can't do with another kind of key.
      return False, False
  rows = np.arange(_MANY_ROWS)
  many = run(take(rows % _ROWS), rows < _ROWS, *key)[:_ROWS]
  alone = run(take([place]), np.ones(1, bool), *key)
  # Sums of another size are rounded otherwise, in bfloat16 by percents.
  return (not _alike(loss, many, 1e-2),
          not _alike(loss[place:place + 1], alone, 1e-2))


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


# Other numbers for a row of floats: of the same range; far above; far below.
_OTHERS = (lambda x: 1 - x, lambda x: 5 * x, lambda x: -5 * x)


def _with_other_row(
    batch: PyTree, place: int, other: Callable[[np.ndarray], np.ndarray]
) -> PyTree:
  """The same with other numbers in one row; whole ones keep their range."""
  def change(x):
    is_float = jnp.issubdtype(x.dtype, jnp.inexact)
    top = 255 if x.dtype == np.uint8 and x.ndim > 2 else 1
    row = x[place].astype(np.float32) / (1 if is_float else top)
    new = other(row)
    changed = x.copy()
    changed[place] = (new if is_float else np.round(
        top * np.clip(new, 0, 1))).astype(x.dtype)
    return changed

  return jax.tree.map(change, batch)


def _alike(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-5) -> bool:
  size = np.max(np.abs(a), initial=1e-30, where=np.isfinite(a))
  return np.allclose(
      a, b, rtol=tolerance, atol=tolerance / 10 * size, equal_nan=True)

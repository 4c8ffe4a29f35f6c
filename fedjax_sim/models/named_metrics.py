"""Metrics by name, as sums and counts of each example.

Each is a function `(outputs, examples) -> {name: (sum [B], count [B])}`, and
takes its options as keywords: `top_k(k=3)` is a metric again (`declared.py`).
The sums of some are arrays [B, k...], which add up like scalars do; their
`finish` makes a number of the totals. So a metric of a test set does not depend
on its batches, devices or lanes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from fedjax_sim.core import checks, masks, precision
from fedjax_sim.core.types import MetricSums
from fedjax_sim.models import declared, losses

# Of `auc`: bins of the logits, even in arsinh of 100 times the logit, up to
# +-1e4. Near 0 a bin is 1.4e-4 wide, further out 1.4% of the logit.
_BINS = 2 ** 11
_REACH = float(np.arcsinh(1e6))


def _is_one_hot(outputs: jax.Array, labels: jax.Array) -> bool:
  """Whether outputs are scores of classes, rather than logits of 0 or 1."""
  return outputs.ndim == labels.ndim + 1 and outputs.shape[-1] > 1


def _counted(right: jax.Array, real: jax.Array | None):
  """(sum, count) over an example's labels, float32 [B] each."""
  real = jnp.ones(right.shape, bool) if real is None else real
  total = lambda x: precision.floats(x).sum(tuple(range(1, x.ndim)))
  return total(right & real), total(real)


@declared.metrics({'accuracy': True}, needs_classes=True)
def accuracy(
    outputs: jax.Array, examples: Any, *, ignore_label: int | None = None,
) -> MetricSums:
  """The share of labels that are predicted.

  Every label counts once: in sequences by place, whatever the length of the
  line, and of several labels (0 or 1) an example has each of them.

  Args:
    outputs: [B, K] or [B, ..., K], scores of classes, of which the largest, the
      first of equals, is the prediction; or of the labels' shape, or [B, 1]:
      logits, whose sign is.
    examples: dict with `y`, int [B] or [B, ...]; with more axes than one a
      negative label is none.
    ignore_label: a label that is none.
  """
  labels = examples['y']
  if _is_one_hot(outputs, labels):
    right = jnp.argmax(outputs, axis=-1) == labels
  else:
    outputs, labels = losses.paired('accuracy', outputs, labels)
    right = (outputs > 0) == (labels > 0)
  return {'accuracy': _counted(right, losses.labelled(labels, ignore_label))}


def default_metrics(loss: Callable) -> Callable[..., MetricSums]:
  """The metrics that mean something for a loss.

  Args:
    loss: as in `Model`.

  Returns:
    `accuracy` for a loss by name of classes, labels of 0 or 1, and tokens;
    `mae` for one of real numbers. For a loss of one's own: `accuracy` where
    labels are whole numbers and outputs have one more axis than they, else
    none. It has an attribute `is_default`, which is True.
  """
  labels = getattr(loss, 'labels', None)
  ignored = getattr(loss, 'options', {}).get('ignore_label')
  chosen = {None: _if_classes, 'real': mae}.get(
      labels, accuracy(ignore_label=ignored))
  default = chosen() if hasattr(chosen, 'options') else chosen
  default.is_default = True
  return default


@declared.metrics({'accuracy': True})
def _if_classes(outputs: jax.Array, examples: Any) -> MetricSums:
  labels = examples.get('y') if isinstance(examples, dict) else None
  if (hasattr(labels, 'dtype') and jnp.issubdtype(labels.dtype, jnp.integer)
      and hasattr(outputs, 'ndim') and _is_one_hot(outputs, labels)):
    return accuracy(outputs, examples)
  return {}


def _errors(name: str, outputs: jax.Array, examples: Any):
  """Outputs minus targets, float32 [B, D]."""
  outputs, targets = losses.paired(name, outputs, examples['y'])
  errors = precision.floats(outputs) - precision.floats(targets)
  return errors.reshape(len(errors), -1)


@declared.metrics({'mae': False})
def mae(outputs: jax.Array, examples: Any) -> MetricSums:
  """The mean of |outputs - y|, over examples and their D outputs."""
  errors = jnp.abs(_errors('mae', outputs, examples)).mean(1)
  return {'mae': (errors, jnp.ones_like(errors))}


def _root(total, count):
  return jnp.sqrt(total / jnp.maximum(count, 1)), (count > 0).astype(
      jnp.float32)


@declared.metrics({'rmse': False}, finish={'rmse': _root})
def rmse(outputs: jax.Array, examples: Any) -> MetricSums:
  """The root of the mean of (outputs - y)^2 over examples and outputs."""
  errors = jnp.square(_errors('rmse', outputs, examples)).mean(1)
  return {'rmse': (errors, jnp.ones_like(errors))}


def _coefficient(total, count):
  """1 - residual / total sum of squares, the mean over outputs that vary."""
  residual, values, squares = total
  spread = squares - values ** 2 / jnp.maximum(count, 1)
  # Less is what rounding leaves of a difference of two sums, or near to it.
  varies = spread > 1000 * jnp.finfo(spread.dtype).eps * squares
  parts = jnp.where(varies, 1 - residual / jnp.where(varies, spread, 1), 0)
  return parts.sum(), varies.sum().astype(precision.scalar())


@declared.metrics({'r2': True}, finish={'r2': _coefficient})
def r2(outputs: jax.Array, examples: Any) -> MetricSums:
  """1 - sum of (outputs - y)^2 / sum of (y - mean y)^2, the mean over outputs.

  Of targets that are all the same there is none, NaN; nor where sums in
  float32 can't tell: of targets whose mean is over 90 times their deviation.
  Centre these.
  """
  errors = _errors('r2', outputs, examples)
  targets = precision.floats(examples['y']).reshape(errors.shape)
  sums = jnp.stack([errors ** 2, targets, targets ** 2], axis=1)
  return {'r2': (sums, jnp.ones(len(errors)))}


@declared.metrics({'top_{k}': True}, needs_classes=True)
def top_k(
    outputs: jax.Array, examples: Any, *, k: int = 5,
    ignore_label: int | None = None,
) -> MetricSums:
  """The share of labels that are among the k largest outputs: `top_5`.

  A class that is as likely as the label counts as larger where it has a lower
  number, as in `accuracy`.

  Args:
    outputs: [B, K] or [B, ..., K].
    examples: dict with `y`, int [B] or [B, ...], as in `accuracy`.
    k: how many.
    ignore_label: as in `accuracy`.
  """
  checks.positive_int('k', k)
  labels = examples['y']
  real = losses.labelled(labels, ignore_label)
  known = (labels if real is None else jnp.where(real, labels, 0))[..., None]
  own = jnp.take_along_axis(outputs, known, axis=-1)
  places = jax.lax.broadcasted_iota(
      jnp.int32, outputs.shape, outputs.ndim - 1)
  before = places < known
  larger = (outputs > own) | ((outputs == own) & before)
  return {f'top_{k}': _counted(larger.sum(-1) < k, real)}


def _by_class(
    outputs: jax.Array, labels: jax.Array, real: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Of each class, [B, K] each: logits, whether it is the label, what counts.

  Of classes the logit is that of one against all others together.
  """
  if _is_one_hot(outputs, labels):
    logits = precision.floats(outputs)
    chosen = jax.nn.log_softmax(logits)
    odds = chosen - jnp.log(-jnp.expm1(jnp.minimum(chosen, -1e-7)))
    positive = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    real = None if real is None else real[..., None]
  else:
    odds, labels = losses.paired('a metric by class', outputs, labels)
    positive = labels > 0
    if odds.ndim == 1:
      odds, positive = odds[:, None], positive[:, None]
      real = None if real is None else real.reshape(-1, 1)
  real = jnp.broadcast_to(True if real is None else real, positive.shape)
  return precision.floats(odds), positive, real


def _area(positives, negatives):
  """The mean over classes that have both, of totals [K, bins]."""
  numbers = positives.sum(-1), negatives.sum(-1)
  both = (numbers[0] > 0) & (numbers[1] > 0)
  share = [x / jnp.maximum(n, 1)[:, None]
           for x, n in zip((positives, negatives), numbers, strict=True)]
  below = jnp.cumsum(share[1], axis=-1) - share[1] / 2
  area = jnp.where(both, (share[0] * below).sum(-1), 0)
  return area.sum(), both.sum().astype(precision.scalar())


@declared.metrics(
    {'auc': True}, finish={'auc': _area}, needs_classes=True)
def auc(
    outputs: jax.Array, examples: Any, *, ignore_label: int | None = None,
) -> MetricSums:
  """The area under the ROC curve: P(a positive scores above a negative).

  From counts in 2,048 bins of the logits, even in arsinh(100 logit): near 0 a
  bin is 1.4e-4 wide, further out 1.4% of the logit, and it ends at 1e4. A
  positive and a negative in one bin count one half, as ties do; so the value is
  off by half of the share of such pairs at most.

  Args:
    outputs: [B] or [B, 1], logits; [B, K] logits of K labels or scores of K
      classes: the mean of the areas of each against the rest.
    examples: dict with `y`, 0 or 1 of the outputs' shape, or int [B].
    ignore_label: a label that is none.

  Returns:
    `auc`; NaN where no class has both positives and negatives.
  """
  labels = examples['y']
  logits, positive, real = _by_class(
      outputs, labels, losses.labelled(labels, ignore_label))
  place = (jnp.arcsinh(100 * logits) / _REACH + 1) / 2 * _BINS
  place = jnp.clip(place, 0, _BINS - 1).astype(jnp.int32)
  bins = jax.nn.one_hot(place, _BINS, dtype=bool)
  inside = lambda which: precision.floats(
      bins & (which & real)[..., None])
  return {'auc': (inside(positive), inside(~positive))}


def _f_score(total, count, average):
  if average == 'micro':
    total, count = total.sum(), count.sum()
  seen = count > 0
  return (jnp.where(seen, total / jnp.where(seen, count, 1), 0).sum(),
          seen.sum().astype(precision.scalar()))


@declared.metrics(
    {'f1': True}, finish={'f1': _f_score}, needs_classes=True)
def f1(
    outputs: jax.Array, examples: Any, *, average: str = 'macro',
    ignore_label: int | None = None,
) -> MetricSums:
  """2 TP / (2 TP + FP + FN), by class.

  Args:
    outputs: as in `auc`. A class is predicted where it has the largest score,
      the first of equals; one of K labels, or of one, where its logit is > 0.
    examples: as in `auc`.
    average: 'macro' is the mean over the classes that are a label or predicted
      anywhere; 'micro' takes the counts of all together.
    ignore_label: a label that is none.
  """
  checks.one_of('average', average, ('macro', 'micro'))
  labels = examples['y']
  odds, positive, real = _by_class(
      outputs, labels, losses.labelled(labels, ignore_label))
  predicted = odds > 0
  if _is_one_hot(outputs, labels):
    predicted = jax.nn.one_hot(
        jnp.argmax(outputs, axis=-1), outputs.shape[-1], dtype=bool)
  counted = lambda x: (x & real).astype(precision.scalar())
  hits = counted(predicted & positive)
  return {'f1': (2 * hits, counted(predicted) + counted(positive))}


def ignoring(metrics: Callable, loss: Callable) -> Callable:
  """Metrics that leave out the labels that the loss ignores."""
  label = getattr(loss, 'options', {}).get('ignore_label')
  if hasattr(metrics, 'parts'):
    return all_of(*(ignoring(one, loss) for one in metrics.parts))
  own = getattr(metrics, 'options', {})
  if label is None or own.get('ignore_label', label) is not None:
    return metrics
  return metrics(ignore_label=label)


def _kind(value: Any) -> str:
  if hasattr(value, 'shape'):
    return f'an array of shape {list(value.shape)}'
  return f'a {type(value).__name__}'


def check_labels(metrics: Callable, loss: Callable) -> None:
  """ValueError if metrics need classes where the loss takes numbers."""
  if getattr(loss, 'labels', None) != 'real':
    return
  for one in getattr(metrics, 'parts', (metrics,)):
    if getattr(one, 'needs_classes', False):
      raise ValueError(
          f'metrics must fit the loss: {one.__name__} needs classes, the loss '
          f'{loss.__name__} takes real numbers.')


def all_of(*metrics: Callable[..., MetricSums]) -> Callable[..., MetricSums]:
  """Several metrics as one.

  Raises:
    ValueError: when it is used, that two of them give the same name, or one
      of them returns no dict.
  """
  def together(outputs: jax.Array, examples: Any, mask=None) -> MetricSums:
    found = {}
    for one in metrics:
      more = masks.call(one, outputs, examples, mask)
      if not isinstance(more, Mapping):
        raise ValueError(
            'metrics must return a dict {name: (sum [B], count [B])}, got '
            f'{_kind(more)} from {checks.shown(one)}.')
      twice = sorted(found.keys() & more.keys())
      if twice:
        raise ValueError(f'metrics must have different names, got '
                         f'{twice[0]!r} twice.')
      found |= more
    return found

  together.parts = metrics
  for name in ('higher_is_better', 'finish'):
    setattr(together, name, {
        key: x for one in metrics
        for key, x in getattr(one, name, {}).items()})
  return together


METRICS = {one.__name__: one for one in (
    accuracy, auc, f1, mae, r2, rmse, top_k)}

"""Whether labels are what a loss takes, where it says so."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fedjax_sim.core.types import PyTree
from fedjax_sim.data import federated

_ROWS_AT_ONCE = 65_536  # Labels may be mapped.
_OTHER_LOSSES = (
    'For numbers use a loss such as mse, for one logit binary_cross_entropy, '
    'for several labels at once multilabel_cross_entropy.')


def check_labels(loss: Callable, part: Any, outputs: PyTree) -> None:
  """Checks dtype, shape and range of `y`.

  Args:
    loss: whose attribute `labels` says what it takes; without it nothing is
      checked.
    part: a `check_examples.Named`.
    outputs: the shapes of the model's outputs for two examples.

  Raises:
    ValueError: naming the set, what there is and how to mend it; of a value
      that is out of range the client and the example.
  """
  kind = getattr(loss, 'labels', None)
  if kind is None:
    return
  labels, name = part.examples['y'], f"{part.name}['y']"
  if not isinstance(labels, np.ndarray | jax.Array):
    raise ValueError(f'{name} must be one array, got a '
                     f'{type(labels).__name__}.')
  if not hasattr(outputs, 'shape'):
    return
  ignored = getattr(loss, 'options', {}).get('ignore_label')
  if kind in ('classes', 'tokens'):
    _check_whole(name, labels)
    _check_class_shape(name, labels, outputs)
    _check_classes(name, part, labels, outputs, ignored)
  elif kind in ('binary', 'multilabel'):
    _check_binary(name, part, labels, ignored, kind)
  elif getattr(loss, 'least', None) is not None:
    _check_least(name, part, labels, loss)


def first_wrong(
    values: np.ndarray, is_wrong: Callable[[np.ndarray], np.ndarray]
) -> tuple[int, Any] | None:
  """(example, value) of the first wrong entry of [E, ...], None if all fit."""
  for start in range(0, len(values), _ROWS_AT_ONCE):
    rows = np.asarray(values[start:start + _ROWS_AT_ONCE])
    wrong = is_wrong(rows)
    if wrong.any():
      place = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
      return start + int(place[0]), rows[place].item()
  return None


def _check_whole(name: str, labels: np.ndarray) -> None:
  if labels.dtype.kind in 'iu':
    return
  whole = labels.dtype == bool or (
      jax.dtypes.issubdtype(labels.dtype, np.floating)
      and first_wrong(labels, lambda y: y != np.floor(y)) is None)
  mend = 'use y.astype(np.int32).' if whole else _OTHER_LOSSES
  raise ValueError(
      f'{name} must be whole numbers, the classes, got {labels.dtype}'
      f'{list(labels.shape)}: {_of_one_hot(labels) or mend}')


def _of_one_hot(labels: np.ndarray) -> str:
  """How to mend one-hot labels, '' if they are none."""
  if labels.ndim < 2 or labels.shape[-1] < 2:
    return ''
  few = np.asarray(labels[:1000])
  if not np.isin(few, (0, 1)).all() or not (few.sum(-1) == 1).all():
    return ''
  return 'they are one-hot, use y.argmax(-1).'


def _check_class_shape(name: str, labels: np.ndarray, outputs) -> None:
  """ValueError unless outputs are of the labels' shape, and classes more."""
  expected = outputs.shape[1:-1]
  if outputs.ndim > 1 and labels.shape[1:] == expected:
    return
  wanted = ', '.join(map(str, ('E', *expected)))
  if labels.ndim == outputs.ndim and labels.shape[-1] == 1:
    mend = 'use y[..., 0].'
  else:
    mend = _of_one_hot(labels) or _OTHER_LOSSES
  if outputs.ndim < 2:
    raise ValueError(
        f'the model must give an output for each class, [B, classes], for '
        f'{name}, it gives {list(("B", *outputs.shape[1:]))}. {_OTHER_LOSSES}'
    )
  raise ValueError(
      f'{name} must be of shape [{wanted}], one class for each of the outputs '
      f'[{wanted}, {outputs.shape[-1]}], got {list(labels.shape)}: {mend}')


def _check_classes(name, part, labels, outputs, ignored: int | None) -> None:
  """ValueError if a label is none of the classes, or there is none at all."""
  classes = outputs.shape[-1]
  sequences = labels.ndim > 1

  def is_wrong(y):
    wrong = y >= classes if sequences else (y < 0) | (y >= classes)
    return wrong if ignored is None else wrong & (y != ignored)

  wrong = first_wrong(labels, is_wrong)
  if wrong is not None:
    row, value = wrong
    mend = '' if value >= 0 else (
        f' cross_entropy(ignore_label={value}) leaves such examples out.')
    if value >= 0 and classes == 1:
      mend = f' {_OTHER_LOSSES}'
    raise ValueError(
        f'{name} must be classes from 0 to {classes - 1}, as many as the model '
        f'has outputs; {federated.where(row, part.data)} has {value}.{mend}')
  if len(labels) and first_wrong(
      labels, lambda y: y != ignored if not sequences else (
          y >= 0) & (y != ignored)) is None:
    raise ValueError(f'{name} must have a label somewhere, all are ignored.')


def _check_binary(name, part, labels, ignored: int | None, kind: str) -> None:
  """ValueError if a label is neither 0 nor 1."""
  def is_wrong(y):
    known = np.isin(y, (0, 1))
    if ignored is not None:
      known |= y == ignored
    return ~(known | (y < 0)) if kind == 'multilabel' else ~known

  wrong = first_wrong(labels, is_wrong)
  if wrong is not None:
    row, value = wrong
    raise ValueError(
        f'{name} must be 0 or 1; {federated.where(row, part.data)} has '
        f'{value}.')


def _check_least(name: str, part, labels, loss: Callable) -> None:
  """ValueError if a label is smaller than the loss takes."""
  wrong = first_wrong(labels, lambda y: y < loss.least)
  if wrong is not None:
    row, value = wrong
    raise ValueError(
        f'{name} must be at least {loss.least} for {loss.__name__}; '
        f'{federated.where(row, part.data)} has {value}.')

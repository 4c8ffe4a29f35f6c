"""What can be read off a run: curves, predictions, frames."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.core.types import Model, PyTree, Variables
from fedjax_sim.experiment import best, metrics
from fedjax_sim.simulation.records import Record


def data_frame(columns: Any) -> Any:
  """A `pandas.DataFrame` of columns, or of records.

  Raises:
    ValueError: pandas is not installed.
  """
  try:
    import pandas
  except ImportError as error:
    raise ValueError('to_pandas needs pandas: pip install pandas.') from error
  return pandas.DataFrame(columns)


def curve(
    records: Sequence[Record], name: str
) -> tuple[np.ndarray, np.ndarray]:
  """Rounds and values of a metric where it was measured.

  Raises:
    ValueError: nowhere; lists what was.
  """
  points = [(record['round'], record[name])
            for record in records if record.get(name) is not None]
  if not points:
    names = sorted({key for record in records for key in record})
    raise ValueError(
        f'no record has metric {name!r}; there are {", ".join(names)}.')
  rounds, values = zip(*points, strict=True)
  return np.array(rounds), np.array(values)


def rounds_to(
    records: Sequence[Record], model: Model, target: float, metric: str,
    mode: str | None,
) -> float | None:
  """When a metric first reaches a target, after training has begun.

  The best value so far is taken to be linear between evaluations, as by
  McMahan et al. 2016; see `metrics.rounds_to_target`.

  Args:
    records: of a run.
    model: knows the directions of its metrics.
    target: a value of the metric.
    metric: as in the records.
    mode: 'max' or 'min', which values are better; None asks the model, but of
      'test/accuracy' larger ones are.

  Returns:
    A number of rounds, in general not whole; None if it is not reached.

  Raises:
    ValueError: no record has the metric, or its direction is not known.
  """
  rounds, values = curve(records, metric)
  if metric == 'test/accuracy':  # Whatever the model states.
    mode = mode or 'max'
  sign = 1 if best.mode_of(model, metric, mode) == 'max' else -1
  trained = rounds > 0
  return metrics.rounds_to_target(
      rounds[trained], sign * values[trained], sign * target)


def predict(
    model: Model, variables: Variables, inputs: PyTree, batch_size: int = 1000
) -> np.ndarray:
  """A model's outputs, batch by batch, compiled once for each batch size.

  Args:
    model: the model.
    variables: its weights.
    inputs: [E, ...], as the examples' `x` in training.
    batch_size: examples at once.

  Returns:
    Outputs [E, ...], NumPy; class scores are logits.

  Raises:
    ValueError: there are no inputs, or they don't fit the model.
  """
  checks.positive_int('batch_size', batch_size)
  inputs = _arrays(inputs)
  size = len(jax.tree.leaves(inputs)[0])
  if not size:
    raise ValueError('inputs must be of at least one example, got 0.')
  _check_fit(model, variables, inputs)
  batch_size = min(batch_size, size)
  outputs = []
  for start in range(0, size, batch_size):
    # The last batch is filled up with its own rows, so that one program does.
    rows = np.minimum(np.arange(start, start + batch_size), size - 1)
    outputs.append(jax.device_get(_run(
        model.apply, variables, jax.tree.map(lambda x, r=rows: x[r], inputs),
        rows == np.arange(start, start + batch_size))))
  return jax.tree.map(lambda *x: np.concatenate(x)[:size], *outputs)


def _arrays(inputs: Any) -> PyTree:
  """Arrays [E, ...] of numbers, of what is given; a list is one array."""
  try:
    arrays = (np.asarray(inputs) if isinstance(inputs, list)
              else jax.tree.map(np.asarray, inputs))
    leaves = jax.tree.leaves(arrays)
  except ValueError as error:
    raise ValueError(
        'inputs must be an array [E, ...], and its rows must have the same '
        f'shape: {error}') from error
  if not leaves or any(x.ndim == 0 or x.dtype.kind not in 'biuf' and (
      not jax.dtypes.issubdtype(x.dtype, np.number)) for x in leaves):
    raise ValueError(
        'inputs must be an array [E, ...] of numbers, as x of the examples in '
        f'training, got {checks.shown(inputs)}.')
  if len({len(x) for x in leaves}) > 1:
    raise ValueError('inputs must have as many rows in each array, got '
                     f'{sorted({len(x) for x in leaves})}.')
  return arrays


def _check_fit(model: Model, variables: Variables, inputs: PyTree) -> None:
  """ValueError if the model does not work on the inputs; from shapes alone."""
  try:
    jax.eval_shape(
        lambda v, x: model.run(
            v, x, key=None, train=False, mask=np.ones(1, bool))[0],
        variables, jax.tree.map(lambda x: x[:1], inputs))
  except Exception as error:  # Users' models raise many types.
    shapes = jax.tree.map(lambda x: f'{x.dtype}[E{_rest(x)}]', inputs)
    weights = ', '.join(
        f'{jax.tree_util.keystr(path)} {list(np.shape(x))}' for path, x in
        jax.tree_util.tree_leaves_with_path(variables.params)[:2])
    raise ValueError(
        f'inputs must be as x of the examples in training, got {shapes}, on '
        f"which a model with parameters {weights} doesn't work: "
        f'{" ".join(str(error).split()):.200}') from error


def _rest(array: np.ndarray) -> str:
  return ''.join(f', {n}' for n in array.shape[1:])


@functools.partial(jax.jit, static_argnums=0)
def _run(apply, variables: Variables, inputs: PyTree, mask: np.ndarray):
  model = Model(init=None, apply=apply, loss=None, metrics=None)
  return model.run(variables, inputs, key=None, train=False, mask=mask)[0]

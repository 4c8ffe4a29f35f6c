"""The best model of a run, by any metric, on disk and in memory.

`checkpoints`, and with it orbax, is imported where a file is read or written.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.core.types import Model, PyTree
from fedjax_sim.simulation import evaluation
from fedjax_sim.simulation.records import Record
from fedjax_sim.simulation.simulation import Simulation, first_inputs

# In a run's folder.
FILE = 'best_params.npz'
MODES = ('max', 'min')


def mode_of(
    model: Model, metric: str, mode: str | None, *, prefix: str = '',
) -> str:
  """'max' or 'min': which values of a metric are good.

  Args:
    model: knows the direction of its metrics.
    metric: such as 'test/accuracy'.
    mode: what the user says; None asks the model.
    prefix: of what the user calls the mode, such as 'best_'.

  Raises:
    ValueError: the model doesn't know, or mode is something else.
  """
  if mode:
    checks.one_of(f'{prefix}mode', mode, MODES)
    return mode
  higher = model.direction(metric.rpartition('/')[2])
  if higher is None:
    raise ValueError(
        f"{prefix}mode must be 'max' or 'min' for {prefix}metric {metric!r}, "
        f'whose direction the model does not state, got {mode!r}. It states '
        f'that of {", ".join(["loss", *sorted(model.higher_is_better)])}.')
  return 'max' if higher else 'min'


def check_metric(simulation: Simulation, metric: str, field: str) -> None:
  """ValueError if a metric of an evaluation set is none of those measured.

  Args:
    simulation: with its evaluation sets.
    metric: such as 'test/accuracy'; one of training is looked for later.
    field: what the user calls it.
  """
  model, sets = simulation.model, simulation.eval_data
  if metric.partition('/')[0] not in sets:
    return
  variables = jax.eval_shape(
      model.init, jax.random.key(0), first_inputs(simulation.train))
  evaluate = evaluation.of_sets(model)
  measured = jax.eval_shape(
      lambda variables, sets: evaluate.finish(evaluate.sums(variables, sets)),
      variables, sets)
  checks.one_of(field, metric, [
      f'{one}/{name}' for one, sums in measured.items() for name in sums])


def value_of(
    record: Record, metric: str, mode: str, *, field: str = 'metric',
) -> float:
  """A metric for which higher is better; -inf where it is not finite.

  Raises:
    ValueError: the record, of a round that was evaluated, has no such metric.
  """
  if record['round'] == 0 and metric.startswith('train/'):
    return -math.inf  # Nobody has trained yet.
  if metric not in record:
    raise ValueError(
        f'{field} must be one of {", ".join(sorted(record))}, got {metric!r}.')
  value = record[metric]
  if value is None or not math.isfinite(value):
    return -math.inf
  return value if mode == 'max' else -value


@dataclasses.dataclass(kw_only=True, repr=False)
class Best:
  """Keeps the best model so far.

  Attributes:
    metric: such as 'test/accuracy'.
    mode: 'max' or 'min'.
    path: a file for it, None to keep it in memory only.
    field: what the user calls the metric.
    variables: of the best round, on the host; None before the first, and where
      the file of an earlier part of the run is lost.
    round: the best one so far.
    value: the metric there.
  """

  metric: str
  mode: str
  path: Path | None = None
  field: str = 'metric'
  variables: PyTree = None
  round: int | None = None
  value: float | None = None

  def __repr__(self) -> str:
    found = f'{self.value:.4g} in round {self.round}' if self.round else 'none'
    return f'Best({self.metric}: {found})'

  def load(self, like: PyTree) -> None:
    """Goes on from what an earlier part of the run has kept."""
    if self.path is None or not self.path.exists():
      return
    from fedjax_sim.experiment.checkpoints import flat_names, load_npz
    arrays = load_npz(self.path)
    self.round = int(arrays.pop('round'))
    self.value = float(arrays.pop('value'))
    like = like._replace(frozen=None)
    leaves, structure = jax.tree.flatten(like)
    self.variables = jax.tree.unflatten(structure, [
        arrays[name].astype(leaf.dtype)  # In the file bfloat16 is float32.
        for name, leaf in zip(flat_names(like), leaves, strict=True)])

  def recall(
      self, records: Iterable[Record], evaluate: Callable[[int], bool]
  ) -> str | None:
    """After `load`: of a model that is lost, its round and value.

    Args:
      records: of the run so far.
      evaluate: round (from 0) -> whether it was evaluated.

    Returns:
      What to tell the user, None if nothing is lost.
    """
    if self.round is not None:
      return None
    for one in records:
      counts = not self.metric.startswith('train/') or (
          one['round'] and evaluate(one['round'] - 1))
      if counts and one.get(self.metric) is not None and self.is_better(one):
        self.round, self.value = one['round'], one[self.metric]
    if self.round is None:
      return None
    return (f'{self.path} is not there: the best model so far, of round '
            f'{self.round} with {self.metric} {self.value:.4g}, was lost or '
            'not kept. A later one is kept if it is better.')

  def is_better(self, record: Record) -> bool:
    """Whether a round's record beats the best one so far."""
    value = value_of(record, self.metric, self.mode, field=self.field)
    if self.value is None:
      return value > -math.inf
    return value > (self.value if self.mode == 'max' else -self.value)

  def keep(self, record: Record, variables: PyTree, write: bool) -> None:
    """Takes a round's model; `write` says whether this process may write."""
    self.round, self.value = record['round'], record[self.metric]
    self.variables = jax.device_get(variables._replace(frozen=None))
    if self.path is not None and write:
      self.write(self.path)

  def write(self, path: Path) -> None:
    """Writes the model with its round and value, whole or not at all."""
    from fedjax_sim.experiment.checkpoints import save_npz
    save_npz(path, self.variables._asdict() | {
        'round': np.int64(self.round), 'value': np.float64(self.value)})

"""Whether a model and the examples it is given fit, before anything runs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sim.core import builders, warning
from fedjax_sim.core.types import Model, PyTree
from fedjax_sim.data import federated, mapped
from fedjax_sim.data.examples import as_examples
from fedjax_sim.data.federated import FederatedData
from fedjax_sim.simulation import check_labels
from fedjax_sim.simulation.lookups import lookups

# Columns of bytes below this are taken for images that were flattened.
_FEW_COLUMNS = 32
_LOOKED_AT = 65_536  # Examples.


class Named(NamedTuple):
  """Examples and what messages call them.

  Attributes:
    name: 'train', 'test' and so on.
    examples: PyTree [E, ...] of NumPy arrays.
    data: the federation that they are of, to name clients; or None.
  """

  name: str
  examples: PyTree
  data: FederatedData | None = None


def as_set(name: str, value: Any) -> PyTree:
  """A set to evaluate on, as a PyTree of arrays that devices take.

  Args:
    name: of the set, for errors.
    value: what `data.federate` takes as examples; or a federation, whose
      clients are pooled.

  Raises:
    ValueError: it is no set of examples, or has none.
  """
  if isinstance(value, FederatedData):
    return value.examples
  examples = as_examples(value, name)
  examples = jax.tree.map_with_path(
      lambda path, leaf: federated.narrow(
          name + jax.tree_util.keystr(path), leaf), examples)
  if not federated.num_examples(examples, name):
    raise ValueError(
        f'{name} must have at least one example, got 0: leave it out if '
        'nothing is to be evaluated on it.')
  return examples


def check_examples(
    model: Model, train: FederatedData, sets: Mapping[str, PyTree]
) -> None:
  """Checks that a model fits the training examples, and all sets fit these.

  Labels are looked at where the loss says what it takes (`loss.labels`, see
  `models.declared`), which losses by name do; one's own loss may take any, or
  none.

  Args:
    model: the model.
    train: the federation.
    sets: name -> examples to evaluate on, as `as_set` returns them.

  Raises:
    ValueError: examples are no dict with `x` (and `y`); a number is not
      finite; the model can't take `x`, or not that of a set; labels are not
      what the loss takes; or a number that the model looks up in a table is
      none of its rows. The field is named, and the client and the example.
  """
  parts = [Named('train', train.examples, train),
           *(Named(name, tree) for name, tree in sets.items())]
  for part in parts:
    _check_alone(model, part)
  first = _rows(parts[0].examples['x'])
  variables = _variables(model, first)
  for part in parts:
    _check_like(part, first)
    _check_fit(model, variables, part, first)
    _warn_of_layout(part)


def check_clients(
    model: Model, train: FederatedData, client_test: FederatedData
) -> None:
  """As `check_examples`, of the clients' own test examples.

  Args:
    model: the model.
    train: the federation, known to fit the model.
    client_test: examples of its clients.
  """
  part = Named('client_test', client_test.examples, client_test)
  first = _rows(train.examples['x'])
  _check_alone(model, part)
  _check_like(part, first)
  _check_fit(model, _variables(model, first), part, first)


def check_set(
    model: Model, variables: PyTree, name: str,
    examples: PyTree | FederatedData,
) -> None:
  """As `check_examples`, of one set and a model that is trained.

  Args:
    model: the model.
    variables: its `Variables`.
    name: of the set.
    examples: as `as_set` returns them, or a federation.
  """
  part = Named(name, examples)
  if isinstance(examples, FederatedData):
    part = Named(name, examples.examples, examples)
  _check_alone(model, part)
  _check_fit(model, variables, part, None)


def _check_alone(model: Model, part: Named) -> None:
  _check_fields(model, part)
  if part.data is None or not mapped.is_mapped(part.data):
    federated.check_all_finite(part.examples, part.name, part.data)


def _check_fit(
    model: Model, variables: PyTree, part: Named, first: PyTree | None
) -> None:
  """ValueError if a model with these variables can't take a set.

  Args:
    model: the model.
    variables: its `Variables`, or their shapes.
    part: the set.
    first: shapes of the inputs that the variables were made for, for errors;
      None if that is not known.
  """
  outputs = _outputs(model, variables, part, first)
  check_labels.check_labels(model.loss, part, outputs)
  _check_lookups(model, variables, part)


def _check_fields(model: Model, part: Named) -> None:
  needed = {'x', 'y'} if hasattr(model.loss, 'labels') else {'x'}
  examples = part.examples
  if not isinstance(examples, dict) or not needed <= set(examples):
    have = (', '.join(map(str, examples)) if isinstance(examples, dict)
            else type(examples).__name__)
    raise ValueError(
        f'{part.name} examples must be a dict with keys '
        f'{" and ".join(sorted(needed))}, got {have}.')
  federated.num_examples(jax.tree.map(np.asarray, examples), part.name)


def _rows(inputs: PyTree) -> PyTree:
  """The shapes of two examples: of one, an axis too many may go unnoticed."""
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype), inputs)


def _variables(model: Model, inputs: PyTree) -> PyTree:
  try:
    return jax.eval_shape(model.init, jax.random.key(0), inputs)
  except Exception as error:  # Flax, JAX and users raise many types.
    raise ValueError(
        f"train['x'] does not fit the model: {_brief(error)}."
        f'{_hint(inputs)}') from error


def _outputs(
    model: Model, variables: PyTree, part: Named, first: PyTree | None
) -> PyTree:
  """The shapes of the outputs, of the variables that training has."""
  inputs = _rows(part.examples['x'])
  try:
    return jax.eval_shape(
        lambda v, x: model.run(v, x, key=jax.random.key(0), train=False,
                               mask=np.ones(2, bool))[0], variables, inputs)
  except Exception as error:
    where = '' if part.name == 'train' or first is None else (
        f', whose parameters are those for train with {_told(first)}')
    raise ValueError(
        f"{part.name}['x'], {_told(inputs)}, does not fit the model{where}: "
        f'{_brief(error)}.{_hint(inputs)}') from error


def _brief(error: Exception) -> str:
  text = builders.one_line(error)
  return text if len(text) <= 400 else f'{text[:397]}...'


def _told(inputs: PyTree) -> str:
  return str(jax.tree.map(lambda x: f'{x.dtype}[E, {str(x.shape[1:])[1:-1]}]'
                          .replace(', ]', ']').replace(',]', ']'), inputs))


def _hint(inputs: PyTree) -> str:
  """What is often the reason."""
  for leaf in jax.tree.leaves(inputs):
    if _is_channels_first(leaf):
      return (' Images must be [E, height, width, channels]; these seem to be '
              '[E, channels, height, width]: x.transpose(0, 2, 3, 1).')
    if leaf.dtype == np.uint8 and leaf.ndim == 2:
      return (' uint8 is taken for pixels and scaled to [0, 1]; tokens must be '
              'of another dtype: x.astype(np.int32).')
    if leaf.dtype.kind == 'i' and leaf.ndim == 2:
      return ' Columns of numbers must be floats: x.astype(np.float32).'
  return ''


def _is_channels_first(leaf: Any) -> bool:
  return (leaf.ndim == 4 and leaf.shape[1] in (1, 3)
          and leaf.shape[3] not in (1, 2, 3, 4)
          and leaf.shape[2] == leaf.shape[3])


def _check_like(part: Named, first: PyTree) -> None:
  """ValueError if a set's inputs are of other kinds than the training's."""
  own = _rows(part.examples['x'])
  if jax.tree.structure(own) != jax.tree.structure(first):
    raise ValueError(
        f"{part.name}['x'] must have the structure of train's, "
        f'{_told(first)}, got {_told(own)}.')
  for (path, a), b in zip(jax.tree.leaves_with_path(own),
                          jax.tree.leaves(first), strict=True):
    if _kind(a.dtype) != _kind(b.dtype):
      raise ValueError(
          f"{part.name}['x']{jax.tree_util.keystr(path)} must be of train's "
          f'dtype, {b.dtype}, got {a.dtype}: uint8 is taken for pixels, and '
          'scaled, and no other dtype is.')


def _kind(dtype: np.dtype) -> str:
  """Of dtypes of one kind a model makes the same."""
  if dtype == np.uint8:
    return 'pixels'
  if jax.dtypes.issubdtype(dtype, np.floating):
    return 'floats'
  return 'integers' if dtype.kind in 'iu' else dtype.name


def _check_lookups(model: Model, variables: PyTree, part: Named) -> None:
  """ValueError if a model looks up what its table doesn't have."""
  leaves = {f"['x']{jax.tree_util.keystr(path)}": leaf for path, leaf
            in jax.tree.leaves_with_path(part.examples['x'])}
  if not any(leaf.dtype.kind in 'iu' for leaf in leaves.values()):
    return
  for found in lookups(model, variables, _rows(part.examples['x'])):
    wrong = check_labels.first_wrong(
        leaves[found.path], lambda x, rows=found.rows: (x < 0) | (x >= rows))
    if wrong is not None:
      row, value = wrong
      raise ValueError(
          f'{part.name}{found.path} must be tokens from 0 to '
          f'{found.rows - 1}, the rows of the table in which the model looks '
          f'them up; {federated.where(row, part.data)} has {value}.')


def _warn_of_layout(part: Named) -> None:
  """Warns of images and bytes that are likely to be taken for others."""
  for path, leaf in jax.tree.leaves_with_path(part.examples['x']):
    name = f"{part.name}['x']{jax.tree_util.keystr(path)}"
    if _is_channels_first(leaf):
      warning.warn(
          f'{name} is of shape {list(leaf.shape)}. Models here take images as '
          '[E, height, width, channels]; if these are [E, channels, height, '
          'width], use x.transpose(0, 2, 3, 1).')
    few = leaf[:_LOOKED_AT]  # There may be more than memory holds.
    if leaf.dtype == np.uint8 and len(leaf) and leaf.ndim <= 2 and (
        leaf.ndim == 1 or leaf.shape[1] < _FEW_COLUMNS or few.max() < 128):
      warning.warn(
          f'{name} is uint8 of shape {list(leaf.shape)}, from {few.min()} to '
          f'{few.max()}. Models here take uint8 for pixels and divide by 255; '
          'if these are other numbers, use x.astype(np.float32), or np.int32 '
          'for tokens.')


def check_federations(federations: Sequence[FederatedData]) -> None:
  """ValueError unless a sweep can have them."""
  if not federations:
    raise ValueError('there must be at least one federation, got none.')
  counts = {f.num_clients for f in federations}
  if len(counts) > 1:
    raise ValueError('federations must have the same number of clients, got '
                     f'{sorted(counts)}.')

"""Federations out of datasets that are indexed: PyTorch's, Hugging Face's."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_sim.core.types import PyTree
from fedjax_sim.data import partition as partition_lib
from fedjax_sim.data.examples import as_array, as_list, stack
from fedjax_sim.data.federated import FederatedData, federate, single

# What datasets call inputs and labels, where nobody says.
_X = ('x', 'image', 'img', 'pixels', 'pixel_values', 'features', 'input_ids')
_Y = ('y', 'label', 'labels', 'target', 'fine_label')

Field = str | int


def from_dataset(
    dataset: Any,
    *,
    x: Field | None = None,
    y: Field | None = None,
    client: Field | Callable[[Any], Any] | Sequence[Any] | None = None,
    partition: Sequence[Any] | Callable[..., Any] | None = None,
) -> FederatedData:
  """A federation of any dataset with `__len__` and `__getitem__`.

  Such are the map-style datasets of PyTorch and torchvision, the datasets of
  Hugging Face, and lists. Items are tuples (x, y, ...) or dicts. All are read
  once, in order, and held in memory.

  Args:
    dataset: `dataset[i]` is example i.
    x: which part of an item is the input: a position in a tuple, by default 0,
      or a name in a dict, by default the first of x, image, img, pixels,
      pixel_values, features and input_ids that is there.
    y: likewise the label, by default 1, or the first of y, label, labels,
      target and fine_label.
    client: who holds an example: a position or name as above, a function of the
      item, or E ids.
    partition: instead of `client`: N arrays of indices, or a function of the
      labels [E] that returns them, such as
      `lambda y: data.partition.dirichlet(y, 10, 0.5, seed=0)`. With neither,
      one client holds all, as for a test set.

  Raises:
    ValueError: naming the example that is of another kind or shape than the
      first, or can't be read; there are none; or as in `federate`.
  """
  if client is not None and partition is not None:
    raise ValueError('client and partition must not both be given: each says '
                     'who holds an example.')
  of_item = _of_item(client)
  examples, ids = _read(dataset, x, y, of_item)
  if of_item is None and client is not None:
    ids = _given(client, len(examples['y']))
  if ids is not None:
    return federate(examples, *partition_lib.natural(ids))
  if partition is None:
    return single(examples)
  if callable(partition):
    partition = _called('partition', partition, examples['y'])
  return federate(examples, partition)


def _called(field: str, function: Callable[[Any], Any], argument: Any) -> Any:
  try:
    return function(argument)
  except Exception as error:  # Whatever a function of the user's raises.
    raise ValueError(f'{field}: the function raised {type(error).__name__}: '
                     f'{error}') from error


def _given(ids: Sequence[Any], size: int) -> Sequence[Any]:
  ids = as_list('client', ids)
  if len(ids) != size:
    raise ValueError(
        f'client must be a field, a function, or an id for each of the {size} '
        f'examples, got {len(ids)}.')
  return ids


def _of_item(client: Any) -> Callable[[Any, int], Any] | None:
  """The client of an item and its number; None if items don't tell."""
  if isinstance(client, str | int):
    return lambda item, i: _scalar(_part(item, client, (), 'client', i))
  if callable(client):
    return lambda item, i: _scalar(_called('client', client, item))
  return None


def _scalar(value: Any) -> Any:
  """A tensor's or an array's one number as Python's; else as it is."""
  return value.item() if getattr(value, 'ndim', None) == 0 else value


def _read(
    dataset: Any, x: Field | None, y: Field | None,
    client: Callable[[Any, int], Any] | None,
) -> tuple[dict[str, PyTree], list | None]:
  """({'x': [E, ...], 'y': [E, ...]}, E clients or None), in one pass."""
  if not (hasattr(dataset, '__len__') and hasattr(dataset, '__getitem__')) or (
      isinstance(dataset, str | bytes | Mapping) or hasattr(dataset, 'columns')
      or getattr(dataset, 'ndim', 1) == 0):
    raise ValueError(
        'dataset must have examples by number, that is __len__ and '
        f'__getitem__(i), got a {type(dataset).__name__}.')
  if not len(dataset):
    raise ValueError('dataset must have at least one example, got 0.')
  inputs, labels, ids = [], [], []
  for i in range(len(dataset)):
    item = _item(dataset, i)
    inputs.append(_array(_part(item, x, _X, 'x', i), 'x', i))
    labels.append(_array(_part(item, y, _Y, 'y', i), 'y', i))
    if client is not None:
      ids.append(client(item, i))
  examples = {'x': stack(inputs, 'x'), 'y': stack(labels, 'y')}
  return examples, ids if client is not None else None


def _array(value: Any, field: str, i: int) -> np.ndarray:
  array = as_array(value, f'{field} of example {i}')
  if array.dtype == object:
    raise ValueError(f'{field} of example {i} must be numbers, got '
                     f'{value!r:.60}.')
  return array


def _item(dataset: Any, i: int) -> Any:
  try:
    return dataset[i]
  except Exception as error:  # Whatever a dataset of the user's raises.
    raise ValueError(
        f'dataset[{i}] can\'t be read: {type(error).__name__}: {error}'
    ) from error


def _part(
    item: Any, name: Field | None, usual: tuple[str, ...], field: str, i: int
) -> Any:
  """What an item holds as `field`."""
  if isinstance(item, Mapping):
    if name is None:
      name = next((key for key in usual if key in item), None)
    if name not in item:
      raise ValueError(
          f'{field} must name a field of example {i}, which has '
          f'{", ".join(map(str, item))}; got {name!r}.')
    return item[name]
  if not isinstance(item, tuple | list):
    raise ValueError(f'example {i} must be a tuple (x, y) or a dict, got a '
                     f'{type(item).__name__}.')
  place = {'x': 0, 'y': 1}.get(field) if name is None else name
  if not isinstance(place, int) or not 0 <= place < len(item):
    raise ValueError(f'{field} must be a position in example {i}, a tuple of '
                     f'{len(item)}; got {place!r}.')
  return item[place]

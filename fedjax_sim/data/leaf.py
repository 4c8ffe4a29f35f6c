"""Federations in LEAF's JSON.

Caldas et al., "LEAF: A Benchmark for Federated Settings", arXiv:1812.01097.
A file is {"users": [names], "num_samples": [counts], "user_data": {name: {"x":
[...], "y": [...]}}}; a folder holds several, of different users. FEMNIST's x
are lists of 784 numbers; those of Shakespeare, Sent140 and Reddit are text,
which a `transform` has to make tokens of.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedjax_sim.core import file_names
from fedjax_sim.data.examples import as_array
from fedjax_sim.data.federated import FederatedData, from_clients, is_numeric
from fedjax_sim.data.sets import text

Transform = Callable[[list, list], tuple[Any, Any]]


def read_leaf(
    path: Path | str, *, transform: Transform | None = None
) -> FederatedData:
  """Reads a file of LEAF, or all `*.json` of a folder in order of their names.

  Args:
    path: of the file or folder, such as `data/femnist/data/train`; plain, or
      packed as .gz or .xz.
    transform: `(x, y) -> (x, y)` of one user's lists, to arrays [n, ...]; None
      takes numbers as they are.

  Returns:
    The users in the order of the files.

  Raises:
    ValueError: naming file and user: it is of another layout, counts disagree,
      a user comes twice, or x or y are no numbers.
  """
  clients = {}
  for file in _files(file_names.as_path('path', path)):
    for user, x, y in _users(file):
      where = f'{file}, user {user!r}'
      if user in clients:
        raise ValueError(f'{where} must not come twice.')
      clients[user] = _arrays(where, x, y, transform)
  return from_clients(clients)


def _files(path: Path) -> list[Path]:
  if path.is_dir():
    found = sorted(file for suffix in ('', '.gz', '.xz')
                   for file in path.glob(f'*.json{suffix}'))
    if not found:
      raise ValueError(f'{path} must have files *.json of LEAF, it has none.')
    return found
  if not path.is_file():
    raise ValueError(f'path must be a file or folder of LEAF, there is none at '
                     f'{str(path)!r}.')
  return [path]


def _users(file: Path):
  """[(user, x, y)] of a file, whose counts agree."""
  content = text.parse_json(text.read_text(file), file)
  kinds = {'users': list, 'num_samples': list, 'user_data': dict}
  for name, kind in kinds.items():
    if not isinstance(content, dict) or not isinstance(
        content.get(name), kind):
      raise ValueError(f'{file} must be an object of LEAF, with a '
                       f'{kind.__name__} {name!r}.')
  users, counts, own = (content[name] for name in kinds)
  if len(users) != len(counts) or set(map(str, users)) != set(own):
    raise ValueError(
        f'{file} must have a count and data for each of its users, got '
        f'{len(users)} users, {len(counts)} counts and data of {len(own)}.')
  for user, count in zip(map(str, users), counts, strict=True):
    data = own[user]
    if not isinstance(data, dict) or not all(
        isinstance(data.get(name), list) for name in 'xy'):
      raise ValueError(f'{file}, user {user!r} must have lists x and y.')
    if not len(data['x']) == len(data['y']) == count:
      raise ValueError(
          f'{file}, user {user!r} must have {count!r} samples, as num_samples '
          f'says, got {len(data["x"])} x and {len(data["y"])} y.')
    yield user, data['x'], data['y']


def _arrays(
    where: str, x: list, y: list, transform: Transform | None
) -> dict[str, Any]:
  if transform is not None:
    x, y = transform(x, y)
  arrays = {'x': as_array(x, f'{where}: x'), 'y': as_array(y, f'{where}: y')}
  for name, array in arrays.items():
    if array.size and not is_numeric(array.dtype):
      raise ValueError(
          f'{where}: {name} must be numbers, got {array.ravel()[0]!r:.60}; of '
          'text a transform=lambda x, y: ... has to make tokens.')
  return arrays

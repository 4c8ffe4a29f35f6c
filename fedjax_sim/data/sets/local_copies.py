"""The ways to an idx set's four files that need no network, each a function.

Ways are as in `raw_files.py`. Those over a network are in `downloads.py`.
"""

import contextlib
import hashlib
import math
import os
from pathlib import Path

import numpy as np
from absl import logging

from fedjax_sim.data.sets import idx, raw_files, tfds_folders


def data_folder(spec: idx.IdxSet, folder: str | os.PathLike | None
                ) -> raw_files.Contents:
  """The original files in a folder of the user's, or in the set's own in it.

  Raises:
    ValueError: a file is there but not right, or only some of them are. That
      is for the user to mend; another way would hide it.
    WayFailed: no folder is given, or none of the files is there.
  """
  if not folder:
    raise raw_files.WayFailed('not given')
  folder = Path(folder).expanduser()
  if not os.path.isdir(folder):
    raise raw_files.WayFailed(f'{folder} is not a folder')
  # The set's own folder goes first: the outer one may hold another set.
  for place in (*(folder / name for name in spec.folders), folder):
    if idx.find(place):
      return read_all(spec, place)
  raise raw_files.WayFailed(
      f'{folder} has none of {", ".join(idx.FILES)} (or .gz), nor has '
      f'{spec.folders[0]}/ in it')


def read_all(spec: idx.IdxSet, folder: Path) -> raw_files.Contents:
  """The four files in `folder` itself; ValueError if they are not right."""
  paths = idx.find(folder)
  missing = [file for file in idx.FILES if file not in paths]
  if missing:
    raise ValueError(f'{folder} has {", ".join(p.name for p in paths.values())}'
                     f' but lacks {", ".join(missing)} of {spec.name}.')
  contents = {file: raw_files.read(paths[file]) for file in idx.FILES}
  for file, data in contents.items():
    idx.check(spec, file, data, paths[file])
  return contents


def cache(spec: idx.IdxSet, folder: Path) -> raw_files.Contents:
  """What an earlier download left in `folder`; damaged files are set aside."""
  contents = {}
  for file in idx.FILES:
    path = folder / file
    if not os.path.isfile(path):
      continue
    try:
      contents[file] = raw_files.read(path)
      idx.check(spec, file, contents[file], path)
    except ValueError as error:
      contents.pop(file, None)
      logging.warning('Damaged cache, set aside as *.damaged: %s', error)
      with contextlib.suppress(OSError):  # Another process may have done it.
        os.replace(path, f'{path}.damaged')
  if len(contents) < len(idx.FILES):
    raise raw_files.WayFailed(
        f'{folder} holds {len(contents)} of {len(idx.FILES)} files')
  return contents


def debian(spec: idx.IdxSet) -> raw_files.Contents:
  """The folder in which a Debian package puts the files."""
  folder = Path(spec.debian_folder)
  if not os.path.isdir(folder):
    raise raw_files.WayFailed(f'{folder} is not there')
  try:
    return read_all(spec, folder)
  except ValueError as error:
    raise raw_files.WayFailed(str(error)) from error


def tfds(spec: idx.IdxSet, root: Path) -> raw_files.Contents:
  """A copy that TFDS has: the files that it downloaded, else its records.

  TFDS shuffles when it prepares a set, but in an order that follows from the
  split's name and the example's number. Here it is undone, so that example i is
  the same one whatever the way.
  """
  contents = _tfds_downloads(spec, root)
  if contents is not None:
    return contents
  folder = prepared_by_tfds(root, spec.name)
  try:
    contents = _tfds_records(spec, folder)
    for file, data in contents.items():
      idx.check(spec, file, data, folder)
  except Exception as error:  # Whatever goes wrong in there, try the next way.
    raise raw_files.WayFailed(f'{folder}: {raw_files.brief(error)}') from error
  return contents


def prepared_by_tfds(root: Path, name: str) -> Path:
  """The folder in which TFDS has prepared a set; WayFailed if there is none."""
  folder = tfds_folders.find(tfds_folders.parse(name), root)
  logging.info('Reading %s as TFDS prepared it, once.', folder)
  return folder


def _tfds_downloads(spec: idx.IdxSet, root: Path) -> raw_files.Contents | None:
  """The raw files among TFDS's downloads, whose names are mangled."""
  sizes = {size for size, _ in spec.gzipped.values()}
  sizes |= {len(idx.header(spec, file)) + math.prod(idx.shape(spec, file))
            for file in idx.FILES}
  contents = {}
  for pattern in ('*', '*/*'):
    for path in (root / 'downloads').glob(pattern):
      # By size first: other sets' downloads can be large, and many.
      with contextlib.suppress(OSError, ValueError):
        if os.path.getsize(path) in sizes:
          data = raw_files.read(path)
          digest = hashlib.sha256(data).hexdigest()
          contents.update({file: data for file, known in spec.sha256.items()
                           if known == digest})
  return contents if len(contents) == len(idx.FILES) else None


def _tfds_records(spec: idx.IdxSet, folder: Path) -> raw_files.Contents:
  contents = {}
  for split, prefix in (('train', 'train'), ('test', 't10k')):
    examples = tfds_split(folder, split)
    order = tfds_order(split, len(examples['label']))
    for file in idx.FILES:
      if file.startswith(prefix):
        shuffled = examples['image' if 'images' in file else 'label']
        array = np.empty(idx.shape(spec, file), np.uint8)
        array[order] = np.reshape(shuffled, array.shape)
        contents[file] = idx.header(spec, file) + array.tobytes()
  return contents


def tfds_split(folder: Path, split: str) -> dict[str, np.ndarray]:
  """Returns 'image' [n, h, w, c] and 'label' [n], in the order of the records.

  Args:
    folder: as `prepared_by_tfds` returns it.
    split: 'train' or 'test'.
  """
  builder = tfds_folders.open_builder(folder)
  columns = {'image': [], 'label': []}
  for example in tfds_folders.examples(builder, split):
    for name, values in columns.items():
      values.append(example[name])
  return {name: np.stack(values) for name, values in columns.items()}


def tfds_order(split: str, size: int) -> np.ndarray:
  """Returns int [size]: the number of the example that TFDS has in place i.

  TFDS sorts by the md5 of the split's name followed by the example's key,
  which for these sets is its number.
  """
  keys = [hashlib.md5(f'{split}{i}'.encode(), usedforsecurity=False).digest()
          for i in range(size)]
  return np.array(sorted(range(size), key=keys.__getitem__))

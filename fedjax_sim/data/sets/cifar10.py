"""CIFAR-10 in its original binary files, and the ways to them.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009). A
file is 10,000 images of 3,073 bytes each: the label, then 32x32 red values row
by row, then green, then blue. Five files are for training, one is for testing.

The ways are those of `local_copies.py` and `downloads.py`: each returns the
bytes of the six files or raises `WayFailed`.
"""

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np
from absl import logging

from fedjax_sim.data.sets import downloads, local_copies, raw_files

NAME = 'cifar10'
NUM_CLASSES = 10
IMAGES = 10_000  # In each file.
FOLDER = 'cifar-10-batches-bin'  # In the archive, and where it is unpacked.

URL = 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz'
# As in TFDS's url_checksums; the md5 on the authors' page is
# c32a1d4ab5d03f1284b67883e8d87530.
ARCHIVE_SHA256 = (
    'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd')
# Of the files in that archive.
SHA256 = {
    'data_batch_1.bin':
        'cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5',
    'data_batch_2.bin':
        'a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed',
    'data_batch_3.bin':
        'bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67',
    'data_batch_4.bin':
        '014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48',
    'data_batch_5.bin':
        '755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add',
    'test_batch.bin':
        '8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b',
}
_SPLITS = {'train': tuple(SHA256)[:-1], 'test': tuple(SHA256)[-1:]}
_SIDE = 32
_ROW = 1 + 3 * _SIDE * _SIDE  # Bytes of a label and its image.


def data_folder(folder: str | os.PathLike | None) -> raw_files.Contents:
  """The files in a folder of the user's, or in FOLDER in it.

  Files that are not the original ones, but of their form, are taken, with a
  warning: copies exist in which some images went through another format.

  Raises:
    ValueError: a file is of another size or has labels beyond 9, or only some
      of the six are there.
    WayFailed: no folder is given, or none of the files is there.
  """
  if not folder:
    raise raw_files.WayFailed('not given')
  folder = Path(folder).expanduser()
  for place in (folder / FOLDER, folder / NAME / FOLDER, folder / NAME, folder):
    present = [file for file in SHA256 if os.path.isfile(place / file)]
    if present:
      break
  else:
    raise raw_files.WayFailed(
        f'{folder} has none of {", ".join(SHA256)}, nor has {FOLDER}/ in it')
  missing = [file for file in SHA256 if file not in present]
  if missing:
    raise ValueError(f'{place} has {", ".join(present)} but lacks '
                     f'{", ".join(missing)} of {NAME}.')
  contents = {file: raw_files.read(place / file) for file in SHA256}
  for file, data in contents.items():
    check(data, place / file)
  others = [file for file in SHA256 if not _is_original(file, contents[file])]
  if others:
    logging.warning(
        '%s: %s are not the original files of CIFAR-10 (by sha256). They are '
        'used as they are; results may differ.', place, ', '.join(others))
  return contents


def check(data: bytes, where: object) -> None:
  """ValueError unless `data` has the form of one of the files.

  Args:
    data: the file's bytes.
    where: the place they come from, for the message.
  """
  size = IMAGES * _ROW
  if len(data) != size:
    raise ValueError(
        f'{where} must be {IMAGES:,} images of {_ROW:,} bytes, {size:,} in '
        f'all, got {len(data):,} bytes.')
  top = int(np.frombuffer(data, np.uint8)[::_ROW].max())
  if top >= NUM_CLASSES:
    raise ValueError(f'{where} holds the label {top}, valid are 0 to '
                     f'{NUM_CLASSES - 1}.')


def _is_original(file: str, data: bytes) -> bool:
  return hashlib.sha256(data).hexdigest() == SHA256[file]


def cache(folder: Path) -> raw_files.Contents:
  """What an earlier download left in `folder`, if all of it is whole."""
  contents = {}
  for file in SHA256:
    with contextlib.suppress(OSError):
      data = (folder / file).read_bytes()
      if _is_original(file, data):
        contents[file] = data
      else:
        logging.warning('Damaged cache, not used: %s', folder / file)
  if len(contents) < len(SHA256):
    raise raw_files.WayFailed(
        f'{folder} holds {len(contents)} of {len(SHA256)} files')
  return contents


def tfds(root: Path) -> raw_files.Contents:
  """A copy that TFDS has: the archive that it unpacked, else its records."""
  for folder in sorted((root / 'downloads' / 'extracted').glob(f'*/{FOLDER}')):
    with contextlib.suppress(raw_files.WayFailed):
      return cache(folder)
  folder = local_copies.prepared_by_tfds(root, NAME)
  try:
    contents = _tfds_records(folder)
  except Exception as error:  # Whatever goes wrong in there, try the next way.
    raise raw_files.WayFailed(f'{folder}: {raw_files.brief(error)}') from error
  wrong = [file for file in SHA256 if not _is_original(file, contents[file])]
  if wrong:
    raise raw_files.WayFailed(f'{folder} does not give {", ".join(wrong)}')
  return contents


def _tfds_records(folder: Path) -> raw_files.Contents:
  contents = {}
  for split, names in _SPLITS.items():
    examples = local_copies.tfds_split(folder, split)
    order = np.argsort(local_copies.tfds_order(split, len(examples['label'])))
    pixels = examples['image'].transpose(0, 3, 1, 2).reshape(len(order), -1)
    rows = np.concatenate(
        [np.uint8(examples['label'])[:, None], pixels], axis=1)[order]
    for file, part in zip(names, np.split(rows, len(names)), strict=True):
      contents[file] = part.tobytes()
  return contents


def mirror() -> raw_files.Contents:
  """The authors' archive of 170 MB, verified by its sha256."""
  return downloads.archive(
      URL, ARCHIVE_SHA256, {file: f'{FOLDER}/{file}' for file in SHA256})


def arrays(contents: raw_files.Contents, split: str) -> dict[str, np.ndarray]:
  """A split of checked `contents`, in the order of the files.

  Args:
    contents: the bytes of the six files.
    split: 'train' or 'test'.

  Returns:
    {'x': uint8 [n, 32, 32, 3], 'y': int32 [n]}.
  """
  rows = np.concatenate([
      np.frombuffer(contents[file], np.uint8).reshape(-1, _ROW)
      for file in _SPLITS[split]])
  pixels = rows[:, 1:].reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
  return {'x': np.ascontiguousarray(pixels), 'y': rows[:, 0].astype(np.int32)}


def advice(folder: Path) -> str:
  """What can be done if no way led to the data; `folder` is the cache's."""
  return f"""  - run once with a network: the data is then kept in {folder};
  - put its original binary files ({', '.join(SHA256)})
    in a folder, and name that as data_dir or in $FEDJAX_SIM_DATA_DIR."""

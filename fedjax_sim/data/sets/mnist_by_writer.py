"""Who wrote MNIST's digits: the label files of QMNIST.

Yadav, Bottou, "Cold Case: The Lost MNIST Digits" (2019). QMNIST's images are
MNIST's in MNIST's order, and 50,000 more for testing. Each of its label files
is idx2-int: bytes 0 0 12 2, two big-endian uint32 for the number of rows and of
columns (8), and a row of big-endian int32 for every image. Column 0 is the
digit, column 2 the writer. MNIST has 539 writers of training images, and 297
others of test images.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedjax_sim.data.sets import downloads, raw_files

NAME = 'mnist_by_writer'
FILES = {'train': 'qmnist-train-labels-idx2-int',
         'test': 'qmnist-test-labels-idx2-int'}
FOLDERS = (NAME, 'qmnist', 'QMNIST/raw')  # Where users have them.

MIRROR = 'https://raw.githubusercontent.com/facebookresearch/qmnist/master/'
GZIPPED_SHA256 = {
    'train': '2c05dc77f6b916b38e455e97ab129a42a444f3dbef09b278a366f82904e0dd9f',
    'test': '9fbcbe594c3766fdf4f0b15c5165dc0d1e57ac604e01422608bb72c906030d06',
}
_MAGIC = b'\0\0\x0c\2'  # int32, two axes.
_COLUMNS = 8
_DIGIT, _WRITER = 0, 2


def data_folder(folder: str | os.PathLike | None) -> raw_files.Contents:
  """The two files in a folder, or in one of FOLDERS in it, plain or .gz.

  Raises:
    ValueError: a file is damaged or of another kind, or only one is there.
    WayFailed: no folder is given, or neither file is there.
  """
  if not folder:
    raise raw_files.WayFailed('not given')
  folder = Path(folder).expanduser()
  for place in (*(folder / name for name in FOLDERS), folder):
    paths = {file: path for file in FILES.values()
             for path in (place / f'{file}.gz', place / file)
             if os.path.isfile(path)}
    if len(paths) == len(FILES):
      contents = {file: raw_files.read(path) for file, path in paths.items()}
      for file, data in contents.items():
        rows(data, paths[file])
      return contents
    if paths:
      missing, = set(FILES.values()) - set(paths)
      raise ValueError(f'{place} has {", ".join(paths)} but lacks {missing}.')
  raise raw_files.WayFailed(
      f'{folder} has none of {", ".join(FILES.values())} (or .gz), nor has '
      f'{FOLDERS[0]}/ in it')


def cache(folder: Path) -> raw_files.Contents:
  """What an earlier download left in `folder`."""
  try:
    return data_folder(folder)
  except ValueError as error:
    raise raw_files.WayFailed(str(error)) from error


def mirror() -> raw_files.Contents:
  """The repository of QMNIST's authors."""
  return downloads.gzipped({
      FILES[split]: (f'{MIRROR}{FILES[split]}.gz', digest)
      for split, digest in GZIPPED_SHA256.items()})


def rows(data: bytes, where: object) -> np.ndarray:
  """The rows of an uncompressed file: int32 [n, 8].

  Args:
    data: the file's bytes.
    where: the place they come from, for the error.

  Raises:
    ValueError: it is no such file, or not all of it.
  """
  count, columns = data[4:8], data[8:12]
  if data[:4] != _MAGIC or columns != _COLUMNS.to_bytes(4, 'big'):
    raise ValueError(f'{where} is no label file of QMNIST, idx2-int with '
                     f'{_COLUMNS} columns: it starts with {data[:12].hex()!r}.')
  size = 12 + 4 * int.from_bytes(count, 'big') * _COLUMNS
  if len(data) != size:
    raise ValueError(f'{where} must have {size:,} bytes, as its header says, '
                     f'got {len(data):,}.')
  table = np.frombuffer(data, '>i4', offset=12)
  return table.reshape(-1, _COLUMNS).astype(np.int32)


def clients(
    contents: Mapping[str, bytes], split: str, labels: np.ndarray
) -> tuple[list[str], list[np.ndarray]]:
  """Who wrote which images.

  Args:
    contents: as `data_folder` returns it.
    split: 'train' or 'test'.
    labels: int [n], MNIST's; of QMNIST's rows the first n are used.

  Returns:
    (the writers' numbers as text, in their order; for each writer int [n_k],
    the images' numbers in their order).

  Raises:
    ValueError: the digits of the rows are not the labels.
  """
  file = FILES[split]
  table = rows(contents[file], file)[:len(labels)]
  if len(table) < len(labels):
    raise ValueError(f'{file} has {len(table):,} rows, must have at least '
                     f"{len(labels):,}, one for each of MNIST's images.")
  differ = np.flatnonzero(table[:, _DIGIT] != labels)
  if len(differ):
    first = differ[0]
    raise ValueError(
        f"column {_DIGIT} of {file} must be MNIST's labels, got "
        f'{table[first, _DIGIT]} where image {first} is a {labels[first]} '
        f'({len(differ):,} of {len(labels):,} differ).')
  writers, starts = np.unique(
      np.sort(table[:, _WRITER]), return_index=True)
  order = np.argsort(table[:, _WRITER], kind='stable')
  return [str(writer) for writer in writers], np.split(order, starts[1:])


def advice(folder: Path) -> str:
  """What can be done if no way led to the data; `folder` is the cache's."""
  return f"""  - run once with a network: the data is then kept in {folder};
  - put the label files of QMNIST ({', '.join(FILES.values())};
    plain or .gz) in a folder, and name that as data_dir or in
    $FEDJAX_SIM_DATA_DIR; MNIST's own files go there too, or any other way."""

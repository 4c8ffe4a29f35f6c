"""Small idx sets for tests, and their files written without the package."""

import gzip
import hashlib
import socket

import numpy as np

from fedjax_sim.data.sets import idx

SIDE, TRAIN, TEST = 4, 6, 3
IMAGES = 'train-images-idx3-ubyte'
LABELS = 'train-labels-idx1-ubyte'
PROXIES = [name for name in ('http_proxy', 'https_proxy', 'all_proxy',
                             'no_proxy') for name in (name, name.upper())]


def idx_file(array):
  """An idx file of a uint8 array, written independently of the package."""
  sizes = b''.join(n.to_bytes(4, 'big') for n in array.shape)
  return b'\0\0\x08' + bytes([array.ndim]) + sizes + array.tobytes()


def arrays(seed, train=TRAIN, test=TEST):
  rng = np.random.default_rng(seed)
  shapes = dict(zip(idx.FILES, (
      (train, SIDE, SIDE), (train,), (test, SIDE, SIDE), (test,)),
                    strict=True))
  return {file: rng.integers(0, 256 if len(shape) == 3 else 10, shape,
                             np.uint8) for file, shape in shapes.items()}


def sha256(data):
  return hashlib.sha256(data).hexdigest()


def gzipped(data):
  return gzip.compress(data, mtime=0)


class Small:
  """A small set: its arrays and files, and its entry in the table."""

  def __init__(self, name, seed, folder):
    self.arrays = arrays(seed)
    self.files = {file: idx_file(array) for file, array in self.arrays.items()}
    self.debian = folder / f'debian-{name}'
    real = idx.SETS[name]
    self.spec = real._replace(
        train_size=TRAIN, test_size=TEST, side=SIDE,
        sha256={file: sha256(data) for file, data in self.files.items()},
        gzipped={file: (len(gzipped(data)), sha256(gzipped(data)))
                 for file, data in self.files.items()},
        mirror=f'http://127.0.0.1:{closed_port()}/',
        debian_folder=real.debian_folder and str(self.debian))

  def write(self, folder, suffix='', name=lambda file: file, **changes):
    """Writes the files; `changes` replaces some by their short names."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in self.files.items():
      data = gzipped(data) if suffix == '.gz' else data
      data = changes.get(file.split('-idx')[0].replace('-', '_'), data)
      if data is not None:
        (folder / (name(file) + suffix)).write_bytes(data)
    return folder

  def check(self, dataset):
    """Asserts that a loaded data set is this one."""
    for prefix, split in (('train', dataset.train), ('t10k', dataset.test)):
      images = self.arrays[f'{prefix}-images-idx3-ubyte']
      labels = self.arrays[f'{prefix}-labels-idx1-ubyte']
      np.testing.assert_array_equal(split['x'], images[..., None])
      np.testing.assert_array_equal(split['y'], labels)
      assert split['x'].dtype == np.uint8 and split['y'].dtype == np.int32


def closed_port():
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return probe.getsockname()[1]

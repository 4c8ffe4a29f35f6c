"""CIFAR-10's files, by every way; small ones in place of the real ones."""

import io
import os
import tarfile

import numpy as np
import pytest

from fedjax_sim.data.sets import cifar10, downloads, raw_files
from fedjax_sim.data.sets import load as load_lib
from tests.data.sets import small_idx, small_tfds

IMAGES = 3  # In each file.
FILES = [f'data_batch_{i}.bin' for i in range(1, 6)] + ['test_batch.bin']


def encoded(images, labels):
  """A file, written byte by byte: label, red plane, green plane, blue plane."""
  data = bytearray()
  for image, label in zip(images, labels, strict=True):
    data.append(label)
    for colour in range(3):
      for row in image:
        data.extend(int(pixel[colour]) for pixel in row)
  return bytes(data)


class Small:
  """Six files of three images each."""

  def __init__(self):
    rng = np.random.default_rng(0)
    self.x = rng.integers(0, 256, (6 * IMAGES, 32, 32, 3), np.uint8)
    self.y = rng.integers(0, 10, 6 * IMAGES)
    self.files = {
        file: encoded(self.x[i:i + IMAGES], self.y[i:i + IMAGES])
        for i, file in zip(range(0, 6 * IMAGES, IMAGES), FILES, strict=True)}

  def write(self, folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in self.files.items():
      data = changes.get(file.removesuffix('.bin'), data)
      if data is not None:
        (folder / file).write_bytes(data)
    return folder

  def check(self, dataset):
    cut = 5 * IMAGES
    for split, rows in ((dataset.train, slice(cut)),
                        (dataset.test, slice(cut, None))):
      np.testing.assert_array_equal(split['x'], self.x[rows])
      np.testing.assert_array_equal(split['y'], self.y[rows])
      assert split['x'].dtype == np.uint8 and split['y'].dtype == np.int32
    assert dataset.name == 'cifar10' and dataset.num_classes == 10


@pytest.fixture(name='small')
def _small(world, monkeypatch):
  small = Small()
  monkeypatch.setattr(cifar10, 'IMAGES', IMAGES)
  monkeypatch.setattr(cifar10, 'SHA256', {
      file: small_idx.sha256(data) for file, data in small.files.items()})
  monkeypatch.setattr(
      cifar10, 'URL', f'http://127.0.0.1:{small_idx.closed_port()}/c.tar.gz')
  small.root = world.root
  return small


@pytest.mark.parametrize('place', [
    '', 'cifar-10-batches-bin', 'cifar10', 'cifar10/cifar-10-batches-bin'])
@pytest.mark.parametrize('by_variable', [False, True])
def test_original_files_are_read(
    small, monkeypatch, caplog, place, by_variable):
  small.write(small.root / 'data' / place)
  folder = small.root / 'data'
  if by_variable:
    monkeypatch.setenv('FEDJAX_SIM_DATA_DIR', str(folder))
  small.check(load_lib.load('cifar10', None if by_variable else folder))
  assert not (small.root / 'cache').exists()  # They are there already.
  assert not caplog.text


def test_files_that_are_not_the_original_ones_are_taken_with_a_warning(
    small, caplog):
  data = bytearray(small.files['data_batch_2.bin'])
  data[1] ^= 1
  folder = small.write(small.root / 'data', data_batch_2=bytes(data))
  dataset = load_lib.load('cifar10', folder)
  small.x[IMAGES, 0, 0, 0] ^= 1
  small.check(dataset)
  assert 'data_batch_2.bin are not the original files' in caplog.text
  assert str(folder) in caplog.text and 'data_batch_3' not in caplog.text


@pytest.mark.parametrize('change, message', [
    (lambda data: data[:-1], r'test_batch.bin must be 3 images of 3,073 bytes, '
     r'9,219 in all, got 9,218 bytes'),
    (lambda data: data + data[:3073], 'got 12,292 bytes'),
    (lambda data: b'', 'got 0 bytes'),
    (lambda data: data[:3073] + b'\x0a' + data[3074:],
     'test_batch.bin holds the label 10, valid are 0 to 9'),
    (lambda data: None, 'lacks test_batch.bin of cifar10')])
def test_a_wrong_file_stops_the_search(small, change, message):
  folder = small.write(
      small.root / 'data', test_batch=change(small.files['test_batch.bin']))
  small.write(small.root / 'cache' / 'cifar10')  # It must not be used.
  with pytest.raises(ValueError, match=message) as caught:
    load_lib.load('cifar10', folder)
  assert str(folder) in str(caught.value)
  assert not isinstance(caught.value, load_lib.DataUnavailableError)


def test_the_cache_is_verified(small, caplog):
  folder = small.write(small.root / 'cache' / 'cifar10')
  small.check(load_lib.load('cifar10'))
  small.write(folder, data_batch_1=b'damaged')
  with pytest.raises(load_lib.DataUnavailableError, match='holds 5 of 6 files'):
    load_lib.load('cifar10')
  assert 'Damaged cache' in caplog.text


def test_the_error_lists_every_way_and_help(small):
  (small.root / 'empty').mkdir()
  with pytest.raises(load_lib.DataUnavailableError) as caught:
    load_lib.load('cifar10', small.root / 'empty')
  message = str(caught.value)
  for text in ('1. data_dir', '2. $FEDJAX_SIM_DATA_DIR', '3. our cache',
               '4. a copy of TFDS', '5. the public mirror', *FILES,
               str(small.root / 'cache' / 'cifar10')):
    assert text in message


def archive_of(files):
  stream = io.BytesIO()
  with tarfile.open(fileobj=stream, mode='w:gz') as archive:
    for file, data in {**files, 'readme.html': b'<html>'}.items():
      member = tarfile.TarInfo(f'cifar-10-batches-bin/{file}')
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))
  return stream.getvalue()


def test_the_mirror_s_archive_is_fetched_once(small, monkeypatch):
  data = archive_of(small.files)
  fetched = []

  def retrieve(sha256, folder):
    fetched.append(sha256)
    (folder / 'a.tar.gz').write_bytes(data)
    return [folder / 'a.tar.gz']

  monkeypatch.setattr(downloads, 'retrieve', retrieve)
  for _ in range(2):
    small.check(load_lib.load('cifar10'))
  assert fetched == [{cifar10.URL: cifar10.ARCHIVE_SHA256}]
  cache = small.root / 'cache' / 'cifar10'
  assert {p.name: p.read_bytes() for p in cache.iterdir()} == small.files


def test_what_tfds_unpacked_is_found(small):
  folder = small.root / 'tfds/downloads/extracted/TAR_GZ.kriz_cifar-10'
  small.write(folder / 'cifar-10-batches-bin')
  small.check(load_lib.load('cifar10'))


def prepared(small, change=lambda x: x):
  """The set as TFDS prepares it."""
  cut = 5 * IMAGES
  splits = {split: (small.x[rows], change(small.y[rows])) for split, rows in (
      ('train', slice(cut)), ('test', slice(cut, None)))}
  small_tfds.write_shuffled(small.root / 'tfds' / 'cifar10' / '3.0.2',
                            small.root / 'pictures', splits, 'tfrecord')


def test_tfds_records_are_put_in_the_original_order(small):
  prepared(small)
  small.check(load_lib.load('cifar10'))
  assert len(os.listdir(small.root / 'cache' / 'cifar10')) == 6


def test_tfds_records_are_verified(small):
  prepared(small, change=lambda labels: labels[::-1])
  with pytest.raises(load_lib.DataUnavailableError, match='does not give'):
    load_lib.load('cifar10')
  assert not (small.root / 'cache').exists()


@pytest.mark.cifar10
def test_real_cifar10(monkeypatch):
  def not_here():
    raise raw_files.WayFailed('170 MB are too much for a test')

  monkeypatch.setattr(cifar10, 'mirror', not_here)
  try:
    dataset = load_lib.load('cifar10')
  except load_lib.DataUnavailableError as error:
    pytest.skip(str(error))
  # 5,000 and 1,000 of each label, its authors say.
  for split, count in ((dataset.train, 5000), (dataset.test, 1000)):
    assert split['x'].shape == (10 * count, 32, 32, 3)
    assert np.bincount(split['y']).tolist() == [count] * 10

"""MNIST by writer: QMNIST's label files, small ones of their form."""

import gzip
import struct

import pytest

from fedjax_sim.data import federated
from fedjax_sim.data.sets import downloads, mnist_by_writer
from fedjax_sim.data.sets import load as load_lib
from tests.data.sets import small_idx

TRAIN_FILE = 'qmnist-train-labels-idx2-int'
TEST_FILE = 'qmnist-test-labels-idx2-int'
TRAIN_WRITERS = [7, 2100, 7, 30, 2100, 7]
TEST_WRITERS = [5, 5, 2]


def label_file(digits, hands):
  """The bytes, written independently of the package; other columns are 9."""
  data = bytes([0, 0, 12, 2]) + struct.pack('>II', len(digits), 8)
  for digit, hand in zip(digits, hands, strict=True):
    data += struct.pack('>8i', digit, 9, hand, 9, 9, 9, 9, 9)
  return data


@pytest.fixture(name='folder')
def _folder(world, monkeypatch):
  """A folder with MNIST's files and QMNIST's, which has two more test rows."""
  monkeypatch.setattr(
      mnist_by_writer, 'MIRROR', f'http://127.0.0.1:{small_idx.closed_port()}/')
  folder = world.mnist.write(world.root / 'data')
  train, test = labels(world)
  write(folder, TRAIN_FILE, label_file(train, TRAIN_WRITERS))
  write(folder, TEST_FILE, label_file([*test, 1, 2], [*TEST_WRITERS, 70, 71]))
  return folder


def labels(world):
  return [world.mnist.arrays[f'{name}-labels-idx1-ubyte'].tolist()
          for name in ('train', 't10k')]


def write(folder, name, data):
  folder.mkdir(parents=True, exist_ok=True)
  (folder / name).write_bytes(data)


def as_lists(natural):
  return dict(zip(natural.client_ids, map(list, natural.partition),
                  strict=True))


def test_writers_are_the_clients_and_images_are_mnist_s(world, folder):
  dataset = load_lib.load('mnist_by_writer', folder)
  world.mnist.check(dataset)
  assert dataset.name == 'mnist_by_writer' and dataset.num_classes == 10
  assert as_lists(dataset.natural) == {
      '7': [0, 2, 5], '30': [3], '2100': [1, 4]}
  assert as_lists(dataset.natural_test) == {'2': [2], '5': [0, 1]}
  data = federated.federate(dataset.train, dataset.natural.partition)
  assert data.sizes.tolist() == [3, 1, 2]


@pytest.mark.parametrize('place', ['mnist_by_writer', 'qmnist', 'QMNIST/raw'])
def test_compressed_files_in_a_folder_of_their_own(world, folder, place):
  for name in (TRAIN_FILE, TEST_FILE):
    data = (folder / name).read_bytes()
    (folder / name).unlink()
    write(folder / place, f'{name}.gz', gzip.compress(data))
  dataset = load_lib.load('mnist_by_writer', folder)
  assert dataset.natural.client_ids == ['7', '30', '2100']


def test_digits_that_are_not_mnist_s_labels_are_an_error(world, folder):
  train, _ = labels(world)
  wrong = [*train[:4], (train[4] + 1) % 10, train[5]]
  write(folder, TRAIN_FILE, label_file(wrong, TRAIN_WRITERS))
  with pytest.raises(
      ValueError, match=rf'column 0 .* got {wrong[4]} where image 4 is a '
      rf'{train[4]} \(1 of 6 differ\)'):
    load_lib.load('mnist_by_writer', folder)


@pytest.mark.parametrize('change, message', [
    (lambda data: data[:-1], 'must have 204 bytes.*got 203'),
    (lambda data: data + b'\0', 'got 205'),
    (lambda data: data[:9], 'is no label file of QMNIST'),
    (lambda data: b'', 'is no label file of QMNIST'),
    (lambda data: b'\0\0\x08\x02' + data[4:], 'is no label file of QMNIST'),
    (lambda data: data[:11] + b'\x05' + data[12:], 'is no label file'),
    (lambda data: data[:7] + b'\x05' + data[8:-32], 'has 5 rows.* least 6')])
def test_damaged_files_are_named(folder, change, message):
  data = (folder / TRAIN_FILE).read_bytes()
  write(folder, TRAIN_FILE, change(data))
  with pytest.raises(ValueError, match=message) as caught:
    load_lib.load('mnist_by_writer', folder)
  assert TRAIN_FILE in str(caught.value)


def test_one_file_alone_is_an_error(folder):
  (folder / TEST_FILE).unlink()
  with pytest.raises(ValueError, match=f'lacks {TEST_FILE}'):
    load_lib.load('mnist_by_writer', folder)


def test_without_the_files_the_error_says_what_to_do(world, folder):
  (folder / TRAIN_FILE).unlink()
  (folder / TEST_FILE).unlink()
  with pytest.raises(load_lib.DataUnavailableError) as caught:
    load_lib.load('mnist_by_writer', folder)
  for text in ('data_dir', '$FEDJAX_SIM_DATA_DIR', 'our cache',
               'the public mirror', TRAIN_FILE, TEST_FILE):
    assert text in str(caught.value)


def test_the_mirror_is_fetched_once(world, folder, monkeypatch):
  contents = {name: (folder / name).read_bytes()
              for name in (TRAIN_FILE, TEST_FILE)}
  for name in contents:
    (folder / name).unlink()
  asked = []

  def gzipped(places):
    asked.append(places)
    return contents

  monkeypatch.setattr(downloads, 'gzipped', gzipped)
  for _ in range(2):
    dataset = load_lib.load('mnist_by_writer', folder)
    assert dataset.natural.client_ids == ['7', '30', '2100']
  assert len(asked) == 1 and {
      name: url for name, (url, _) in asked[0].items()} == {
          name: f'{mnist_by_writer.MIRROR}{name}.gz' for name in contents}


@pytest.mark.mnist
def test_real_writers():
  try:
    dataset = load_lib.load('mnist_by_writer')
  except load_lib.DataUnavailableError as error:
    pytest.skip(str(error))
  assert len(dataset.natural.client_ids) == 539
  assert len(dataset.natural_test.client_ids) == 297
  assert not (set(dataset.natural.client_ids)
              & set(dataset.natural_test.client_ids))
  assert sum(map(len, dataset.natural.partition)) == 60_000

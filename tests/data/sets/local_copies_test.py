"""The ways that need no network: folders, right and wrong; cache; TFDS."""

import os
import sys
import threading
import time

import numpy as np
import pytest

from fedjax_sim.data.sets import idx, local_copies, raw_files
from fedjax_sim.data.sets import load as load_lib
from tests.data.sets import small_idx, small_tfds

_IMAGES = small_idx.IMAGES
_LABELS = small_idx.LABELS


@pytest.mark.parametrize('suffix', ['', '.gz'])
@pytest.mark.parametrize('old_spelling', [False, True])
@pytest.mark.parametrize('place', ['', 'mnist', 'MNIST/raw'])
def test_original_files_are_read(world, suffix, old_spelling, place):
  name = lambda file: file.replace('-idx', '.idx') if old_spelling else file
  world.mnist.write(world.root / 'data' / place, suffix, name)
  dataset = load_lib.load('mnist', world.root / 'data')
  world.mnist.check(dataset)
  assert dataset.name == 'mnist' and dataset.num_classes == 10
  assert not (world.root / 'cache').exists()  # They are there already.


def test_names_may_end_in_gz_though_a_browser_uncompressed_them(world):
  folder = world.root / 'data'
  folder.mkdir()
  for file, data in world.mnist.files.items():
    (folder / f'{file}.gz').write_bytes(data)
  world.mnist.check(load_lib.load('mnist', folder))


def test_folders_of_two_sets_do_not_get_mixed_up(world):
  folder = world.mnist.write(world.root / 'data')
  world.fashion.write(folder / 'fashion-mnist')
  world.mnist.check(load_lib.load('mnist', folder))
  world.fashion.check(load_lib.load('fashion_mnist', folder))


def test_arrays_are_the_callers_own(world):
  folder = world.mnist.write(world.root / 'data')
  load_lib.load('mnist', folder).train['x'][:] = 0
  world.mnist.check(load_lib.load('mnist', folder))


def _wrong(world):
  mnist, fashion = world.mnist.files, world.fashion.files
  more = small_idx.arrays(5, train=small_idx.TRAIN + 1)
  other = small_idx.idx_file(np.zeros_like(world.mnist.arrays[_IMAGES]))
  size = len(mnist[_IMAGES])
  return {
      'truncated': (mnist[_IMAGES][:-7],
                    f'truncated: {size - 7} bytes.*makes {size}'),
      'cut in the header': (mnist[_IMAGES][:9], 'no idx file'),
      'empty': (b'', 'no idx file'),
      'too long': (mnist[_IMAGES] + b'\0', 'is too long'),
      'wrong set': (fashion[_IMAGES], f'is {_IMAGES} of fashion_mnist'),
      'swapped': (mnist['t10k-images-idx3-ubyte'],
                  'is t10k-images-idx3-ubyte of mnist'),
      'labels for images': (mnist[_LABELS], f'is {_LABELS} of mnist'),
      'wrong count': (small_idx.idx_file(more[_IMAGES]),
                      r'holds uint8 \[7, 4, 4\]\.'),
      'unknown content': (
          other, f'no known set: sha256 {small_idx.sha256(other)}'),
      'a web page': (b'<!doctype html>', 'no idx file of uint8'),
      'truncated gzip': (small_idx.gzipped(mnist[_IMAGES])[:-9],
                         'truncated, damaged'),
      'missing': (None, f'lacks {_IMAGES} of mnist'),
  }


@pytest.mark.parametrize('fault', [
    'truncated', 'cut in the header', 'empty', 'too long', 'wrong set',
    'swapped', 'labels for images', 'wrong count', 'unknown content',
    'a web page', 'truncated gzip', 'missing'])
@pytest.mark.parametrize('by_variable', [False, True])
def test_a_wrong_file_stops_the_search(world, monkeypatch, fault, by_variable):
  data, message = _wrong(world)[fault]
  folder = world.mnist.write(world.root / 'data', train_images=data)
  world.mnist.write(world.root / 'cache' / 'mnist')  # It must not be used.
  if by_variable:
    monkeypatch.setenv('FEDJAX_SIM_DATA_DIR', str(folder))
  with pytest.raises(ValueError, match=message) as caught:
    load_lib.load('mnist', None if by_variable else folder)
  assert str(folder) in str(caught.value) and _IMAGES in str(caught.value)
  assert not isinstance(caught.value, load_lib.DataUnavailableError)
  if 'Valid is' in str(caught.value):
    assert world.mnist.spec.sha256[_IMAGES] in str(caught.value)


@pytest.mark.parametrize('change, message', [
    (lambda spec, digest: spec._replace(num_classes=5), 'holds the label'),
    (lambda spec, digest: spec._replace(
        sha256={**spec.sha256, _LABELS: digest}),
     '6 images and 7 labels'),
])
def test_labels_are_checked_whatever_the_sums_say(
    world, monkeypatch, change, message):
  longer = small_idx.idx_file(small_idx.arrays(0, train=7)[_LABELS])
  spec = change(world.mnist.spec, small_idx.sha256(longer))
  monkeypatch.setitem(idx.SETS, 'mnist', spec)
  changes = {} if spec.num_classes == 5 else {'train_labels': longer}
  folder = world.mnist.write(world.root / 'data', **changes)
  with pytest.raises(ValueError, match=message):
    load_lib.load('mnist', folder)


def test_an_empty_data_dir_is_reported_and_the_next_way_taken(world, caplog):
  (world.root / 'empty').mkdir()
  world.mnist.write(world.root / 'cache' / 'mnist')
  world.mnist.check(load_lib.load('mnist', world.root / 'empty'))
  assert str(world.root / 'empty') in caplog.text


def test_a_damaged_cache_file_is_replaced(world, caplog):
  cache = world.fashion.write(world.root / 'cache' / 'fashion_mnist',
                              train_images=b'\0\0\x08\x03')
  world.fashion.write(world.fashion.debian, '.gz')
  world.fashion.check(load_lib.load('fashion_mnist'))
  assert 'Damaged cache' in caplog.text and str(cache) in caplog.text
  assert (cache / _IMAGES).read_bytes() == world.fashion.files[_IMAGES]
  assert (cache / f'{_IMAGES}.damaged').read_bytes() == b'\0\0\x08\x03'
  caplog.clear()
  world.fashion.debian.rename(world.root / 'gone')
  world.fashion.check(load_lib.load('fashion_mnist'))  # From the cache alone.
  assert not caplog.text


@pytest.mark.parametrize('step', ['fsync', 'chmod', 'replace'])
def test_an_interrupted_write_leaves_nothing_new(
    world, monkeypatch, tmp_path, step):
  def interrupt(*_):
    raise KeyboardInterrupt

  (tmp_path / 'store').mkdir()
  (tmp_path / 'store' / _IMAGES).write_bytes(b'old')
  monkeypatch.setattr(os, step, interrupt)
  with pytest.raises(KeyboardInterrupt):
    raw_files.store(tmp_path / 'store', world.mnist.files)
  assert [p.name for p in (tmp_path / 'store').iterdir()] == [_IMAGES]
  assert (tmp_path / 'store' / _IMAGES).read_bytes() == b'old'


def test_a_file_is_seen_whole_or_not_at_all(tmp_path):
  files = {_IMAGES: os.urandom(1 << 20)}
  stop = threading.Event()

  def write():
    while not stop.is_set():
      raw_files.store(tmp_path / 'store', files)

  writers = [threading.Thread(target=write) for _ in range(3)]
  for writer in writers:
    writer.start()
  seen = 0
  try:
    end = time.monotonic() + 20
    while seen < 50 and time.monotonic() < end:
      if (tmp_path / 'store' / _IMAGES).exists():
        assert (tmp_path / 'store' / _IMAGES).read_bytes() == files[_IMAGES]
        seen += 1
  finally:
    stop.set()
    for writer in writers:
      writer.join()
  assert seen == 50
  assert [p.name for p in (tmp_path / 'store').iterdir()] == [_IMAGES]


def test_a_cache_that_cannot_be_written_is_no_obstacle(world, caplog):
  (world.root / 'cache').write_text('a file, where a folder should be')
  world.fashion.write(world.fashion.debian)
  world.fashion.check(load_lib.load('fashion_mnist'))
  assert 'cannot be cached' in caplog.text


def test_the_debian_folder_is_read_and_verified(world):
  world.fashion.write(world.fashion.debian, '.gz')
  world.fashion.check(load_lib.load('fashion_mnist'))
  (world.fashion.debian / f'{_IMAGES}.gz').write_bytes(b'no')
  for file in (world.root / 'cache' / 'fashion_mnist').iterdir():
    file.unlink()
  with pytest.raises(load_lib.DataUnavailableError,
                     match='dataset-fashion-mnist: .*no idx file'):
    load_lib.load('fashion_mnist')


def _prepared(world, form, change=lambda x: x):
  """Mnist as TFDS prepares it."""
  arrays = world.mnist.arrays
  splits = {split: (arrays[f'{prefix}-images-idx3-ubyte'][..., None],
                    change(arrays[f'{prefix}-labels-idx1-ubyte']))
            for split, prefix in (('train', 'train'), ('test', 't10k'))}
  small_tfds.write_shuffled(world.root / 'tfds' / 'mnist' / '3.0.1',
                            world.root / 'pictures', splits, form)


@pytest.mark.parametrize('form', small_tfds.FORMATS)
def test_tfds_records_are_put_in_the_original_order(world, form):
  if form == 'array_record':
    pytest.importorskip('array_record')
  _prepared(world, form)
  order = local_copies.tfds_order('train', small_idx.TRAIN)
  assert order.tolist() != sorted(order)  # Else no test.
  world.mnist.check(load_lib.load('mnist'))
  assert (world.root / 'cache' / 'mnist' / _IMAGES).exists()


def test_tfds_records_are_verified(world):
  _prepared(world, 'tfrecord', change=lambda labels: labels[::-1])
  with pytest.raises(load_lib.DataUnavailableError, match='a copy of TFDS: '):
    load_lib.load('mnist')
  assert not (world.root / 'cache').exists()


def test_tfds_is_not_imported_without_a_prepared_copy(world, monkeypatch):
  # None in sys.modules makes any import of it raise ImportError.
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  with pytest.raises(load_lib.DataUnavailableError, match='nothing prepared'):
    load_lib.load('mnist')


@pytest.mark.parametrize('place', ['', 'extracted', 'mnist'])
def test_raw_files_among_tfds_downloads_are_found(world, place):
  folder = world.root / 'tfds' / 'downloads' / place
  folder.mkdir(parents=True)
  for i, (file, data) in enumerate(world.mnist.files.items()):
    # Of extracted files TFDS keeps the name, .gz and all.
    data = data if place == 'extracted' else small_idx.gzipped(data)
    (folder / f'cvdf_mnis_{file[:9]}a8-B{i}.gz').write_bytes(data)
    size = len(data)
  (folder / 'same_size').write_bytes(b'\x1f\x8b' + bytes(size - 2))
  world.mnist.check(load_lib.load('mnist'))

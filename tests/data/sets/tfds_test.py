"""Sets of TFDS, in its own format: images, tables, texts, clients, splits."""

import json
import sys

import numpy as np
import pytest
import tensorflow_datasets as module

from configs import digits_quickstart
from fedjax_sim import data
from fedjax_sim.data.sets import (
    downloads,
    load,
    raw_files,
    tfds_folders,
    tfrecord,
)
from fedjax_sim.experiment import build_run
from tests.data.sets import small_tfds

SIZES = {'train': 10, 'test': 4}
IMAGES = {split: np.random.default_rng(0).integers(
    0, 256, (size, 5, 4), np.uint8) for split, size in SIZES.items()}


@pytest.fixture(autouse=True)
def no_tensorflow():
  """Fails a test if TensorFlow was imported, where there is one."""
  before = 'tensorflow' in sys.modules
  yield
  assert ('tensorflow' in sys.modules) is before


def write_images(tmp_path, form='tfrecord', shards=1, name='small', **options):
  pictures = tmp_path / 'pictures'
  pictures.mkdir(exist_ok=True)
  features = {
      'image': module.features.Image(shape=(5, 4, 1)),
      'label': module.features.ClassLabel(num_classes=7),
      'writer_id': module.features.Text(), 'number': np.int64}
  splits = {split: [
      {'image': small_tfds.png(pictures, image), 'label': i % 3,
       'writer_id': f'w{i % 2}', 'number': 5 + i % 4}
      for i, image in enumerate(images)] for split, images in IMAGES.items()}
  return small_tfds.write(
      tmp_path / 'root' / name / '1.0.0', features, splits, form, shards,
      **({'supervised': ('image', 'label')} | options))


@pytest.mark.parametrize('form', small_tfds.FORMATS)
@pytest.mark.parametrize('shards', [1, 3])
def test_images_with_clients(tmp_path, form, shards):
  if form == 'array_record':
    pytest.importorskip('array_record')
  write_images(tmp_path, form, shards)
  got = data.tfds('small', client='writer_id', data_dir=tmp_path / 'root')
  for split, images in IMAGES.items():
    part = getattr(got, split)
    np.testing.assert_array_equal(part['x'], images[..., None])
    assert part['x'].dtype == np.uint8 and part['y'].dtype == np.int32
    assert part['y'].tolist() == [i % 3 for i in range(len(images))]
  assert (got.name, got.num_classes, got.vocabulary) == ('small', 7, None)
  assert got.natural.client_ids == ['w0', 'w1']
  assert got.natural.partition[1].tolist() == [1, 3, 5, 7, 9]
  assert got.natural_test.partition[0].tolist() == [0, 2]


def test_slices_of_splits_over_shards(tmp_path):
  write_images(tmp_path, shards=3)
  got = data.tfds('small', train='train[2:7]', test='train[7:]',
                  client='number', data_dir=tmp_path / 'root')
  np.testing.assert_array_equal(got.train['x'][..., 0], IMAGES['train'][2:7])
  np.testing.assert_array_equal(got.test['x'][..., 0], IMAGES['train'][7:])
  assert got.natural.client_ids == ['5', '6', '7', '8']


def test_a_part_of_training_where_there_is_no_test_split(tmp_path):
  features = {'x': np.float32, 'label': np.int64}
  small_tfds.write(tmp_path / 'small' / '1.0.0', features, {
      'train': [{'x': i, 'label': i} for i in range(20)]})
  options = {'x': 'x', 'data_dir': tmp_path}
  got = data.tfds('small', test_fraction=0.3, client='label', **options)
  assert len(got.test['y']) == 6 and got.num_classes == 20
  assert sorted([*got.train['y'], *got.test['y']]) == list(range(20))
  assert got.natural.client_ids == [str(y) for y in sorted(got.train['y'])]
  again = data.tfds('small', test_fraction=0.3, **options)
  np.testing.assert_array_equal(got.test['y'], again.test['y'])
  for fraction in (0, 1):
    with pytest.raises(ValueError, match='test_fraction must leave'):
      data.tfds('small', test_fraction=fraction, **options)


def test_a_config_names_a_set_and_its_clients(tmp_path):
  write_images(tmp_path)
  config = digits_quickstart.get_config()
  config.dataset = 'tfds("small", client="writer_id")'
  config.data_dir = str(tmp_path / 'root')
  config.partition, config.num_clients = 'natural', 0
  config.client_test_fraction = 0.0
  dataset = build_run.load_dataset(config)
  names, partition, _ = build_run.deal(config, dataset)
  assert names == ['w0', 'w1']
  assert [part.tolist() for part in partition] == [
      [0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
  config.dataset = 'tfds("small")'
  with pytest.raises(ValueError, match='natural.*client="a feature"'):
    build_run.deal(config, build_run.load_dataset(config))


# Tables


@pytest.fixture
def table(tmp_path):
  features = {
      'features': {'age': np.float32, 'sex': module.features.ClassLabel(
          num_classes=2), 'count': np.int64, 'old': np.bool_},
      'note': module.features.Text(), 'survived': np.int64, 'price': np.float32,
      'vector': module.features.Tensor(shape=(2,), dtype=np.float32)}
  rows = [{'features': {'age': i / 2, 'sex': i % 2, 'count': 300 + i,
                        'old': i > 3}, 'note': 'a', 'survived': i % 2,
           'price': i / 4, 'vector': [i, -i]} for i in range(6)]
  small_tfds.write(tmp_path / 'small' / '2.0.0', features,
                   {'train': rows, 'test': rows[:2]})
  return tmp_path


def test_named_columns_and_all_of_a_dict(table):
  options = {'y': 'survived', 'data_dir': table}
  got = data.tfds('small', x=['features/age', 'features/count'], **options)
  assert got.train['x'].dtype == np.float32 and got.num_classes == 2
  assert got.train['x'].tolist() == [[i / 2, 300 + i] for i in range(6)]
  whole = data.tfds('small', x='features', **options)
  # In the order of the names: age, count, old, sex.
  assert whole.train['x'].tolist() == [
      [i / 2, 300 + i, i > 3, i % 2] for i in range(6)]
  one = data.tfds('small', x='vector', **options)
  assert one.train['x'].tolist() == [[i, -i] for i in range(6)]


def test_labels_that_are_real_numbers(table):
  got = data.tfds('small', x='features', y='price', data_dir=table)
  assert got.train['y'].dtype == np.float32 and got.num_classes == 1


@pytest.mark.parametrize('options, message', [
    ({}, 'x must be given for .*features/age, '),
    ({'x': 'features'}, 'y must be given'),
    ({'x': 'featurs'}, "x must name a feature .*got 'featurs'"),
    ({'x': 'features', 'y': 'lived'}, "y must name a feature .*got 'lived'"),
    ({'x': 'features', 'y': 'features'}, 'y must be one feature'),
    ({'x': 'features', 'y': 'note'}, "y: feature 'note' is text"),
    ({'x': [], 'y': 'survived'}, 'at least one feature'),
    ({'x': ['features', 'note'], 'y': 'survived'}, "a number, 'note' is Text"),
    ({'x': ['vector', 'price'], 'y': 'survived'}, "a number, 'vector' is Ten"),
    ({'x': 'features', 'y': 'survived', 'client': 'who'}, 'client must name'),
    ({'x': 'features', 'y': 'survived', 'client': 'price'}, 'client_ids must'),
    ({'x': 'features', 'y': 'survived', 'test': 'dev'},
     "split must be one of train, test.*got 'dev'"),
    ({'x': 'features', 'y': 'survived', 'train': 'train[:0]'}, 'no examples'),
])
def test_features_that_do_not_do(table, options, message):
  with pytest.raises(ValueError, match=message):
    data.tfds('small', data_dir=table, **options)


def test_images_of_several_sizes_are_named(tmp_path):
  features = {'image': module.features.Image(shape=(None, None, 3)),
              'label': module.features.ClassLabel(num_classes=2)}
  rows = [{'image': small_tfds.png(tmp_path, np.zeros((4, 5 + i // 2, 3),
                                                      np.uint8)), 'label': 0}
          for i in range(4)]
  small_tfds.write(tmp_path / 'r/small/1.0.0', features, {'train': rows})
  with pytest.raises(ValueError, match=r'image must be of one shape for all '
                     r'examples, got \[4, 5, 3\] in example 0'):
    data.tfds('small', data_dir=tmp_path / 'r')


# Texts


TRAIN = ['to be or not', 'be Be to', 'a', 'to']
TEST = ['or what be', 'to']


@pytest.fixture
def texts(tmp_path):
  features = {'text': module.features.Text(), 'who': module.features.Text(),
              'label': module.features.ClassLabel(names=['bad', 'good'])}
  small_tfds.write(tmp_path / 'small' / 'plain' / '1.0.0', features, {
      split: [{'text': text, 'who': 'ab'[i % 2], 'label': i % 2}
              for i, text in enumerate(part)]
      for split, part in (('train', TRAIN), ('test', TEST))})
  return tmp_path


def test_texts_with_classes(texts):
  got = data.tfds('small/plain', length=3, data_dir=texts)
  # By frequency in training, then by code point: capitals first.
  assert got.vocabulary == ['to', 'be', 'Be', 'a', 'not', 'or']
  assert got.train['x'].tolist() == [[4, 5, 9], [5, 6, 4], [7, 0, 0], [4, 0, 0]]
  assert got.test['x'].tolist() == [[9, 3, 5], [4, 0, 0]]  # 'what' is OOV.
  assert got.train['y'].tolist() == [0, 1, 0, 1] and got.num_classes == 2


def test_a_vocabulary_is_bounded_or_given(texts):
  got = data.tfds('small/plain', vocabulary=5, length=2, data_dir=texts)
  assert got.vocabulary == ['to'] and got.train['x'].max() == 4
  given = data.tfds('small/plain', vocabulary=['what', 'a'], length=4,
                    data_dir=texts)
  assert given.test['x'][0].tolist() == [3, 4, 3, 0]


def test_tokens_that_follow(texts):
  got = data.tfds('small/plain', y='text', client='who', length=3,
                  data_dir=texts)
  assert got.num_classes == 4 + 6
  # 'to be or not' and its end are two windows: five tokens to predict.
  assert got.train['x'].tolist()[:2] == [[1, 4, 5], [9, 8, 0]]
  assert got.train['y'].tolist()[:2] == [[4, 5, 9], [8, 2, -1]]
  assert np.count_nonzero(got.train['y'] >= 0) == sum(
      len(text.split()) + 1 for text in TRAIN)
  assert got.natural.client_ids == ['a', 'b']
  # Each window is with the author of its text.
  assert got.natural.partition[0].tolist() == [0, 1, 4]


def test_characters(texts):
  got = data.tfds('small/plain', token='characters', length=2, data_dir=texts)
  assert set(got.vocabulary) == set(''.join(TRAIN))


@pytest.mark.parametrize('options, message', [
    ({'vocabulary': 4}, 'vocabulary must be a whole number >= 5'),
    ({'vocabulary': ['a', 'a']}, "each word once, got 'a'"),
    ({'vocabulary': [3]}, 'a list of words'),
    ({'vocabulary': [str(i) for i in range(40_000)]}, 'at most 32,763'),
    ({'length': 0}, 'length'), ({'token': 'word'}, "tokens must be one of"),
    ({'x': ['text']}, 'must stand alone')])
def test_texts_that_do_not_do(texts, options, message):
  with pytest.raises(ValueError, match=message):
    data.tfds('small/plain', data_dir=texts, **options)


# Folders


def test_versions_and_configs(tmp_path):
  for place in ('one/1.9.0', 'one/1.10.0', 'two/a/1.0.0', 'three/a/1.0.0',
                'three/b/1.0.0'):
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / 'dataset_info.json').write_text('{}')
  find = lambda name: tfds_folders.find(tfds_folders.parse(name), tmp_path)
  assert find('one') == tmp_path / 'one/1.10.0'
  assert find('one:1.9.0') == tmp_path / 'one/1.9.0'
  assert find('two') == find('two/a') == tmp_path / 'two/a/1.0.0'
  assert find('three/b:1.0.0') == tmp_path / 'three/b/1.0.0'
  with pytest.raises(ValueError, match='several configs.*one of a, b'):
    find('three')
  for name in ('four', 'one:2.0.0', 'two/b'):
    with pytest.raises(raw_files.WayFailed, match='nothing prepared'):
      find(name)


@pytest.mark.parametrize('name', [
    '', '../x', 'a/../b', 'a/b/c', '/etc', 'a:..', 'a:/x', 'a/b:1/2', '~'
    '/x/y/z'])
def test_names_do_not_leave_the_folder(name):
  with pytest.raises(ValueError, match='TFDS|TFDS set'):
    data.tfds(name)


def test_the_prepared_folder_itself(tmp_path):
  folder = write_images(tmp_path)
  assert len(data.tfds('any', data_dir=folder).train['y']) == 10


def test_without_a_network_it_is_told_what_to_do(tmp_path, monkeypatch):
  def silent(url):
    raise raw_files.WayFailed(f'no answer from {url}')
  monkeypatch.setattr(downloads, 'probe', silent)
  with pytest.raises(load.DataUnavailableError) as info:
    data.tfds('emnist/balanced', data_dir=tmp_path)
  for part in ('1. ', 'emnist/balanced holds nothing prepared', '2. no answer',
               "tfds.load('emnist/balanced'", 'read without TensorFlow'):
    assert part in str(info.value)


def test_what_tfds_can_not_prepare_is_told(tmp_path, monkeypatch):
  monkeypatch.setattr(downloads, 'probe', lambda url: None)
  def builder(*args, **kwargs):
    raise ModuleNotFoundError('No module', name='tensorflow')
  monkeypatch.setattr(module, 'builder', builder)
  with pytest.raises(load.DataUnavailableError,
                     match='needs the module tensorflow to prepare emnist'):
    data.tfds('emnist', data_dir=tmp_path)


def test_what_tfds_prepares_is_read(tmp_path, monkeypatch):
  """The builder that is asked for writes the folder, as TFDS's would."""
  class Builder:
    def download_and_prepare(self):
      write_images(tmp_path)
  asked = []
  monkeypatch.setattr(downloads, 'probe', lambda url: None)
  monkeypatch.setattr(module, 'builder', lambda name, **kwargs: (
      asked.append((name, kwargs['data_dir'])), Builder())[1])
  got = data.tfds('small', data_dir=tmp_path / 'root')
  assert asked == [('small', str(tmp_path / 'root'))]
  assert len(got.train['y']) == 10


# Damage


def shard(folder):
  return next(folder.glob('small-train.tfrecord*'))


@pytest.mark.parametrize('seed', range(20))
def test_a_flipped_bit_is_told(tmp_path, seed):
  """Of lengths, data and checksums; not of the lengths' own checksums."""
  folder = write_images(tmp_path)
  content = bytearray(shard(folder).read_bytes())
  at = int(np.random.default_rng(seed).integers(len(content)))
  if 8 <= at < 12:
    at = 0
  content[at] ^= 1 << seed % 8
  shard(folder).write_bytes(content)
  records = small_records(folder)
  try:
    got = list(tfrecord.read(shard(folder)))
  except ValueError as error:
    assert 'damaged' in str(error)
  else:
    assert got == records  # Nothing that is used has changed.


def small_records(folder):
  """The records, by a reader that looks at nothing but lengths."""
  content, records, at = shard(folder).read_bytes(), [], 0
  while at < len(content):
    length = int.from_bytes(content[at:at + 8], 'little')
    records.append(content[at + 12:at + 12 + length])
    at += 16 + length
  return records


@pytest.mark.parametrize('cut', [1, 4, 20, 200])
def test_a_cut_file_is_told(tmp_path, cut):
  folder = write_images(tmp_path)
  shard(folder).write_bytes(shard(folder).read_bytes()[:-cut])
  with pytest.raises(ValueError, match='record .* is cut off or damaged'):
    data.tfds('small', data_dir=folder)


def test_checksums_of_many_lengths():
  rng = np.random.default_rng(0)
  records = [rng.bytes(int(n)) for n in (0, 1, 7, 300, 4095, 4096, 4097, 9000)]
  assert tfrecord.masked_crc32c(records).tolist() == [
      small_tfds.masked_crc32c(record) for record in records]
  # The check value of CRC-32C, RFC 3720's B.4 and every catalogue.
  crc = 0xE3069283
  assert tfrecord.masked_crc32c([b'123456789']) == [
      ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF]


def test_counts_that_disagree_are_told(tmp_path):
  folder = write_images(tmp_path)
  info = json.loads((folder / 'dataset_info.json').read_text())
  info['splits'][0]['shardLengths'] = ['9']
  (folder / 'dataset_info.json').write_text(json.dumps(info))
  with pytest.raises(ValueError, match='must have 9 records, .*got 10'):
    data.tfds('small', data_dir=folder)


@pytest.mark.parametrize('file, content, message', [
    ('dataset_info.json', 'text', 'no prepared set'),
    ('features.json', 'text', 'no JSON'),
    ('features.json', '{}', 'no prepared'),
    *(('features.json', '[' * n + ']' * n, 'features.json|no prepared')
      for n in (300, 900, 100_000)),
    ('features.json', '{"pythonClassName": "os.system"}',
     "features of TFDS only, got 'os.system'"),
    ('features.json', None, 'lacks features.json')])
def test_damaged_descriptions(tmp_path, file, content, message):
  folder = write_images(tmp_path)
  if content is None:
    (folder / file).unlink()
  else:
    (folder / file).write_text(content)
  with pytest.raises(ValueError, match=message):
    data.tfds('small', data_dir=folder)


def test_files_outside_of_the_folder_are_not_read(tmp_path):
  folder = write_images(tmp_path)
  info = json.loads((folder / 'dataset_info.json').read_text())
  info['splits'][0]['filepathTemplate'] = (
      '../{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}')
  (folder / 'dataset_info.json').write_text(json.dumps(info))
  with pytest.raises(ValueError, match='must lie in|no prepared set'):
    data.tfds('small', data_dir=folder)


def test_a_missing_shard_is_told(tmp_path):
  folder = write_images(tmp_path, shards=2)
  shard(folder).unlink()
  with pytest.raises(ValueError, match='is missing, which train is read from'):
    data.tfds('small', data_dir=folder)


def test_what_can_not_be_decoded_is_told(tmp_path):
  folder = write_images(tmp_path)
  small_tfds.tfrecord(shard(folder), [b'no example'] * 10)
  with pytest.raises(ValueError, match="record 0 can't be decoded"):
    data.tfds('small', data_dir=folder)


def test_sequences_of_features_are_told_apart(tmp_path):
  features = {'x': np.float32, 'label': np.int64, 'boxes': module.features.
              Sequence({'area': np.int64})}
  small_tfds.write(tmp_path / 'small' / '1.0.0', features, {
      'train': [{'x': i, 'label': i, 'boxes': {'area': [i, i]}}
                for i in range(4)]})
  assert len(data.tfds('small', x='x', data_dir=tmp_path).train['y']) == 3
  with pytest.raises(ValueError, match='feature boxes must hold numbers'):
    data.tfds('small', x='boxes', data_dir=tmp_path)

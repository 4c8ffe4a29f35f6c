"""Small sets in TFDS's own format, written without TensorFlow."""

import hashlib
import json
import struct

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

FORMATS = ('tfrecord', 'array_record')


def png(folder, array):
  """The path of an image file, which is how TFDS takes one without TensorFlow.

  Args:
    folder: that exists.
    array: uint8 [height, width] or [height, width, 3].
  """
  path = folder / f'{len(list(folder.iterdir()))}.png'
  Image.fromarray(array).save(path)
  return str(path)


def write_shuffled(folder, pictures, splits, form):
  """A set of images and labels in the order in which TFDS has its records.

  That is by the md5 of the split's name, then of the key, as a number; here
  keys are the examples' numbers.

  Args:
    folder: to be made.
    pictures: a folder for files of images, to be made.
    splits: split -> (images uint8 [n, h, w, channels], labels [n]).
    form: one of FORMATS.
  """
  pictures.mkdir()
  written = {}
  for split, (images, labels) in splits.items():
    number = lambda i, split=split: int(
        hashlib.md5(split.encode() + str(i).encode()).hexdigest(), 16)
    written[split] = [
        {'image': png(pictures, np.squeeze(images[i])), 'label': labels[i]}
        for i in sorted(range(len(labels)), key=number)]
  shape = splits['train'][0].shape[1:]
  write(folder, {'image': tfds.features.Image(shape=shape),
                 'label': tfds.features.ClassLabel(num_classes=10)},
        written, form)


def write(folder, features, splits, form='tfrecord', shards=1, supervised=None):
  """Writes a prepared folder, `<root>/<name>[/<config>]/<version>`.

  Args:
    folder: to be made.
    features: name -> feature of TFDS.
    splits: split -> list of examples, as TFDS's generators yield them.
    form: one of FORMATS.
    shards: files a split.
    supervised: names of input and label, as TFDS's `supervised_keys`.
  """
  features = tfds.features.FeaturesDict(features)
  folder.mkdir(parents=True)
  features.save_config(folder)
  name = 'small'
  info = {'name': name, 'version': folder.name, 'fileFormat': form,
          'splits': []}
  if supervised:
    info['supervisedKeys'] = {'tuple': {'items': [
        {'featureKey': key} for key in supervised]}}
  for split, examples in splits.items():
    records = [features.serialize_example(example) for example in examples]
    groups = [list(group) for group in np.array_split(
        np.array([*records, None], object)[:-1], shards)]
    for i, group in enumerate(groups):
      path = folder / f'{name}-{split}.{form}-{i:05}-of-{shards:05}'
      WRITERS[form](path, group)
    info['splits'].append({
        'name': split, 'shardLengths': [str(len(group)) for group in groups],
        'numBytes': str(sum(map(len, records))),
        'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'})
  (folder / 'dataset_info.json').write_text(json.dumps(info))
  return folder


def masked_crc32c(data):
  """Bit by bit, from the definition."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc ^= byte
    for _ in range(8):
      crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
  crc ^= 0xFFFFFFFF
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def tfrecord(path, records):
  with open(path, 'wb') as file:
    for record in records:
      length = struct.pack('<Q', len(record))
      file.write(length + struct.pack('<I', masked_crc32c(length)))
      file.write(record + struct.pack('<I', masked_crc32c(record)))


def array_record(path, records):
  from array_record.python import array_record_module
  writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:1')
  for record in records:
    writer.write(record)
  writer.close()


WRITERS = {'tfrecord': tfrecord, 'array_record': array_record}

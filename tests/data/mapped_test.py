import numpy as np
import pytest

from fedjax_sim import data
from tests import toys


def clients(sizes=(3, 1, 4), seed=0):
  rng = np.random.default_rng(seed)
  return [(f'c{i}', {'x': rng.integers(0, 256, (n, 2, 3), np.uint8),
                     'y': rng.integers(0, 10, n)})
          for i, n in enumerate(sizes)]


def test_what_is_written_is_what_is_opened(tmp_path):
  written = data.write_mapped(tmp_path / 'f', iter(clients()))
  opened = data.open_mapped(tmp_path / 'f')
  assert opened.client_ids == ['c0', 'c1', 'c2']
  assert isinstance(opened.examples['x'], np.memmap)
  assert opened.examples['y'].dtype == np.int32  # Narrowed.
  for i, (_, examples) in enumerate(clients()):
    for one in (written, opened):
      for name, leaf in examples.items():
        np.testing.assert_array_equal(one.client(i)[name], leaf)
  assert [p.name for p in tmp_path.iterdir()] == ['f']


@pytest.mark.parametrize('last, message', [
    (('c0', {'x': np.zeros((1, 2, 3), np.uint8), 'y': np.zeros(1, int)}),
     'distinct'),
    (('odd', {'x': np.zeros((1, 2, 2), np.uint8), 'y': np.zeros(1, int)}),
     'client odd'),
    (('odd', {'x': np.zeros((0, 2, 3), np.uint8), 'y': np.zeros(0, int)}),
     'client odd is empty'),
    (('odd', {'x': np.zeros((1, 2, 3), np.uint8), 'y': np.array([2 ** 40])}),
     'client odd.*y'),
])
def test_bad_clients_leave_nothing_behind(tmp_path, last, message):
  with pytest.raises(ValueError, match=message):
    data.write_mapped(tmp_path / 'f', [*clients(), last])
  assert not list(tmp_path.iterdir())


def test_no_clients_and_folders_that_are_there(tmp_path):
  with pytest.raises(ValueError, match='at least one client'):
    data.write_mapped(tmp_path / 'f', [])
  with pytest.raises(ValueError, match='must not exist yet'):
    data.write_mapped(tmp_path, clients())
  with pytest.raises(ValueError, match='no folder of a mapped federation'):
    data.open_mapped(tmp_path)


def test_a_truncated_file_is_told(tmp_path):
  data.write_mapped(tmp_path / 'f', clients())
  file = tmp_path / 'f' / 'x.bin'
  file.write_bytes(file.read_bytes()[:-1])
  with pytest.raises(ValueError, match='x.bin must have 48 bytes'):
    data.open_mapped(tmp_path / 'f')


def test_a_federation_is_told_in_a_line(tmp_path):
  held = toys.softmax_data([3] * 1000)
  assert repr(held) == (
      "FederatedData(1,000 clients, 3,000 examples of {'x': 'float32[4]', "
      "'y': 'int32[]'})")


def test_a_cut_index_is_named(tmp_path):
  held = toys.softmax_data([3, 5])
  data.write_mapped(tmp_path / 'm', [
      (name, held.client(i)) for i, name in enumerate(held.client_ids)])
  file = tmp_path / 'm' / 'offsets.npy'
  file.write_bytes(file.read_bytes()[:-4])
  with pytest.raises(ValueError, match=f'{file} is damaged'):
    data.open_mapped(tmp_path / 'm')

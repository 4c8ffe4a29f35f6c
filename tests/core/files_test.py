import pytest

from fedjax_sim.core import files


def test_a_file_is_replaced_when_complete(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_bytes(b'old')
  with files.replacing(path) as file:
    file.write(b'new')
    file.flush()
    assert path.read_bytes() == b'old'
  assert path.read_bytes() == b'new'
  assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_bytes(b'old')
  with pytest.raises(OSError):
    with files.replacing(path) as file:
      file.write(b'half')
      raise OSError('disk full')
  assert path.read_bytes() == b'old'
  assert list(tmp_path.iterdir()) == [path]

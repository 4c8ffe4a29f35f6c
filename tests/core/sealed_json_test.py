import hashlib
import json

import pytest

from fedjax_sim.core import sealed_json

VALUE = {'b': [1, 2.5, None], 'a': {'é': True, 'c': -0.0}}


def test_what_is_written_comes_back_with_a_checksum(tmp_path):
  path = tmp_path / 'a.json'
  sealed_json.write(path, VALUE)
  assert sealed_json.read(path) == VALUE
  plain = json.loads(path.read_text())
  assert list(plain) == ['a', 'b', 'sha256']
  del plain['sha256']
  text = json.dumps(plain, indent=2, sort_keys=True) + '\n'
  assert json.loads(path.read_text())['sha256'] == hashlib.sha256(
      text.encode()).hexdigest()


def test_any_flipped_bit_is_noticed_or_changes_nothing(tmp_path):
  path, same = tmp_path / 'a.json', 0
  sealed_json.write(path, VALUE)
  content = path.read_bytes()
  for place in range(8 * len(content)):
    flipped = bytearray(content)
    flipped[place // 8] ^= 1 << place % 8
    path.write_bytes(flipped)
    try:
      assert sealed_json.read(path) == VALUE
      same += 1  # White space, or an escape's digits in the other case.
    except ValueError as error:
      assert 'a.json is damaged' in str(error)
  assert same < len(content)


@pytest.mark.parametrize('content', [
    b'', b'3', b'[]', b'{}', b'null', b'\xff\xfe', b'{"a": 1}',
    b'{"sha256": 1}',
    '{"a": 1}'.encode('utf-16'), b'[' * 100_000, b'{"a": NaN, "sha256": ""}'])
def test_other_content(tmp_path, content):
  path = tmp_path / 'a.json'
  path.write_bytes(content)
  with pytest.raises(ValueError, match='a.json is damaged'):
    sealed_json.read(path)

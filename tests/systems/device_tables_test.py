"""Profiles from files: what is read, and what is wrong with others."""

import pickle

import numpy as np
import pytest

from fedjax_sim import systems
from fedjax_sim.systems import fedscale

COLUMNS = {'step_seconds': [0.1, 0.2, 0.4], 'down_bps': [1e6, 2e6, 4e6],
           'up_bps': [1e5, 2e5, 4e5]}


def write_csv(path, **changes):
  columns = COLUMNS | changes
  lines = [','.join(columns)] + [
      ','.join(map(str, row)) for row in zip(*columns.values(), strict=True)]
  path.write_text('\n'.join(lines))
  return str(path)


def test_csv_and_npz_say_the_same(tmp_path):
  fails = {'fail_before': [0, 0.5, 1]}
  csv = write_csv(tmp_path / 'a.csv', **fails)
  npz = str(tmp_path / 'a.npz')
  np.savez(npz, **{k: np.array(v) for k, v in (COLUMNS | fails).items()})
  for path in (csv, npz):
    made = systems.table(path).make(2, 0)
    np.testing.assert_array_equal(made.step_seconds, [0.1, 0.2])
    np.testing.assert_array_equal(made.up_bps, [1e5, 2e5])
    np.testing.assert_array_equal(made.failures.before, [0, 0.5])
    assert made.windows is None and made.training_watts is None
  shuffled = systems.table(csv, shuffle=True).make(3, 0).step_seconds
  assert sorted(shuffled) == [0.1, 0.2, 0.4]


def test_intervals_follow_their_rows(tmp_path):
  path = write_csv(tmp_path / 'a.csv')
  windows = tmp_path / 'windows.csv'
  windows.write_text('client,start,end\n2,10,20\n0,0,5\n')
  seed = next(s for s in range(99) if systems.table(
      path, shuffle=True).make(3, s).step_seconds[0] == 0.4)
  made = systems.table(path, str(windows), period=100.0, shuffle=True).make(
      3, seed)
  rows = made.step_seconds
  is_open = lambda t: made.windows.is_open(np.arange(3), t)
  np.testing.assert_array_equal(is_open(115.0), rows == 0.4)
  np.testing.assert_array_equal(is_open(203.0), rows == 0.1)


@pytest.mark.parametrize('changes, message', [
    ({'down_bps': [1e6, 0, 4e6]},
     'column down_bps must be positive and finite, got 0.0 in row 3'),
    ({'step_seconds': [1, 'inf', 2]}, "got inf in row 3"),
    ({'up_bps': [1, 2, 'fast']}, "column up_bps .* got 'fast' in row 4"),
    ({'fail_after': [0, 2, 0]}, r'column fail_after must be in \[0, 1\]'),
    ({'training_watts': [1, 1, 1]}, 'must have a column radio_watts'),
    ({'colour': [1, 1, 1]}, "column of .* must be one of .*got 'colour'"),
    ({'fail_befor': [0, 0, 0]}, "Did you mean 'fail_before'"),
])
def test_wrong_values_are_named(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    systems.table(write_csv(tmp_path / 'a.csv', **changes))


def test_files_that_are_none(tmp_path):
  path = tmp_path / 'a.csv'
  with pytest.raises(ValueError, match='there is none at'):
    systems.table(str(path))
  path.write_text('step_seconds,down_bps\n1,2\n')
  with pytest.raises(ValueError, match='must have a column up_bps'):
    systems.table(str(path))
  path.write_text('step_seconds,down_bps,up_bps\n1,2\n')
  with pytest.raises(ValueError, match='3 values in each row.*2 in row 2'):
    systems.table(str(path))
  broken = tmp_path / 'a.npz'
  broken.write_bytes(b'PK\3\4 and no more')
  with pytest.raises(ValueError, match="can't be read as an npz"):
    systems.table(str(broken))
  with pytest.raises(ValueError, match='each of the 4 clients.* has 3'):
    systems.table(write_csv(path)).make(4, 0)


@pytest.mark.parametrize('row, message', [
    ('3,0,1', 'column client must be a row from 0 to 2, got 3.0 in row 2'),
    ('0,-1,1', 'column start'), ('0,5,5', 'column end must be after the start'),
    ('0,5,200', 'by at most a period')])
def test_wrong_intervals_are_named(tmp_path, row, message):
  windows = tmp_path / 'windows.csv'
  windows.write_text(f'client,start,end\n{row}\n')
  with pytest.raises(ValueError, match=message):
    systems.table(
        write_csv(tmp_path / 'a.csv'), str(windows), period=100.0)


def test_fedscale_traces_become_a_table(tmp_path, capsys):
  """A file of its format, by hand: 3 capacities, 2 behaviours."""
  capacity = {7: {'computation': 50.0, 'communication': 2048.0},
              9: {'computation': 100.0, 'communication': 512.0},
              12: {'computation': 10.0, 'communication': 1024.0}}
  behave = {1: {'duration': 30, 'active': [10, 60], 'inactive': [20, 80],
                'finish_time': 100, 'model': 'CPH1801'},
            2: {'duration': 5, 'active': [0, 40], 'inactive': [5, 40],
                'finish_time': 50, 'model': 'other'}}
  paths = [str(tmp_path / name) for name in ('capacity', 'behave', 'out.npz')]
  for path, one in zip(paths, (capacity, behave), strict=False):
    with open(path, 'wb') as file:
      pickle.dump(one, file)
  fedscale.main([*paths, '--batch_size=20'])
  assert '3 devices, 5 intervals' in capsys.readouterr().out
  made = systems.table(paths[2]).make(3, 0)
  # FedScale: 3 * batch_size * ms / 1000, and (up + down) kbit / communication.
  np.testing.assert_allclose(made.step_seconds, [3.0, 6.0, 0.6])
  np.testing.assert_allclose(made.down_bps, [2048 * 1024, 512 * 1024, 2 ** 20])
  np.testing.assert_allclose(made.up_bps, made.down_bps)
  is_open = lambda t: made.windows.is_open(np.arange(3), t).tolist()
  assert is_open(3.0) == [False, True, False]
  assert is_open(115.0) == [True, False, True]


def test_a_pickle_of_anything_else_is_not_run(tmp_path):
  path = tmp_path / 'evil'
  path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
  with pytest.raises(ValueError, match='names os.system'):
    fedscale.read(str(path))

"""The table of clients over time, on disk."""

import numpy as np
import pytest

from fedjax_sim.experiment import client_history
from fedjax_sim.simulation.client_evaluation import ClientMetrics

IDS = ['a', 'b, "c"\nd', 'e']
FOUND = [(r, ClientMetrics({'loss': np.array([0.1 + r, np.nan, 1 / 3])},
                           np.array([2, 0, 5]))) for r in (2, 4, 6)]


@pytest.fixture
def path(tmp_path):
  path = tmp_path / client_history.FILE
  for round_number, found in FOUND:
    client_history.append(path, round_number, IDS, found)
  return path


def assert_same(got, want):
  assert got.client_ids == want.client_ids
  for a, b in ((got.rounds, want.rounds), (got.num_examples,
               want.num_examples), (got.values['loss'], want.values['loss'])):
    np.testing.assert_array_equal(a, b)


def test_what_is_written_is_read_to_the_bit(path):
  assert_same(client_history.read(path), client_history.joined(IDS, FOUND))
  frame = client_history.read(path).to_pandas()
  assert frame['client'].tolist() == IDS * 3
  assert frame['round'].tolist() == [2] * 3 + [4] * 3 + [6] * 3


def test_later_rounds_and_cut_lines_are_dropped(path):
  whole = path.read_text()
  for cut in range(1, 20):  # Within round 6's lines.
    path.write_text(whole[:-cut])
    client_history.truncate_after(path, 4)
    assert_same(client_history.read(path),
                client_history.joined(IDS, FOUND[:2]))
  client_history.truncate_after(path, 0)
  assert not path.exists()


def test_damage_is_named(path):
  whole = path.read_text()
  path.write_text(whole.replace('round,', 'turn,'))
  with pytest.raises(ValueError, match='line 1: must begin with round,client'):
    client_history.read(path)
  path.write_text(whole + '8,a,2\n')
  with pytest.raises(ValueError, match='line 11: not 4 fields'):
    client_history.read(path)
  path.write_text(whole + '8,a,2,0.5\n')
  with pytest.raises(ValueError, match='some clients are missing'):
    client_history.read(path)
  path.write_text(whole.replace('2,a,2,', '2,a,2,1*'))
  with pytest.raises(ValueError, match=r'csv, line 2: could not convert'):
    client_history.read(path)
  path.write_text(whole.replace('2,a,2,', '2,a,x,'))
  with pytest.raises(ValueError, match='csv, line 2: invalid literal'):
    client_history.read(path)
  path.write_bytes(whole.encode() + b'\xff')
  with pytest.raises(ValueError, match='csv is damaged'):
    client_history.read(path)

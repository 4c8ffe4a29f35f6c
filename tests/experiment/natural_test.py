"""Experiments on data that comes with clients of its own."""

import json

import numpy as np
import pytest

from configs import irc_words, mnist_iid, shakespeare_iid, shakespeare_roles
from fedjax_sim.experiment import run as run_lib

ONE = run_lib.Shape(1, 1)


@pytest.fixture(name='folder')
def _folder(tmp_path, monkeypatch):
  """Roles r0 to r9 of 5 to 14 lines, and as many authors of as many words."""
  monkeypatch.delenv('FEDJAX_SIM_DATA_DIR', raising=False)
  for name in ('shakespeare/roles.jsonl', 'messages/all.jsonl'):
    (tmp_path / name).parent.mkdir()
    with (tmp_path / name).open('w') as file:
      for i in range(10):
        lines = [f'line {j}' for j in range(5 + i)]
        file.write(json.dumps({
            'play': 'P', 'character': f'r{i}', 'lines': lines,
            'client': f'r{i}', 'messages': lines}) + '\n')
  return str(tmp_path)


def build(module, folder, **changes):
  config = module.get_config()
  config.data_dir = folder
  for name, value in changes.items():
    config[name] = value
  return run_lib.build(config.lock(), ONE)


@pytest.mark.parametrize('num_clients', [0, 10])
def test_clients_are_those_of_the_data(folder, num_clients):
  built = build(shakespeare_roles, folder, num_clients=num_clients,
                client_fraction=0.29)
  train = built.simulation.train
  assert train.client_ids == [f'P: r{i}' for i in range(10)]
  # floor(0.2 n) of n = 5 to 14 lines are for test.
  assert train.sizes.tolist() == [4, 5, 6, 7, 8, 8, 9, 10, 11, 12]
  assert built.simulation.sampler.max_cohort == 2
  assert built.labels is None and built.client_test is None


def test_authors_as_clients(folder):
  built = build(irc_words, folder, clients_per_round=5, test_examples=0)
  assert built.simulation.train.client_ids == [f'r{i}' for i in range(9)]
  assert built.simulation.train.sizes.tolist() == list(range(5, 14))
  assert built.simulation.sampler.max_cohort == 5


def test_clients_own_test_parts(folder):
  built = build(shakespeare_roles, folder, client_test_fraction=0.25)
  train, test = built.simulation.train, built.client_test
  assert train.client_ids == test.client_ids
  assert test.sizes.tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 2, 3]
  assert (train.sizes + test.sizes).tolist() == [
      4, 5, 6, 7, 8, 8, 9, 10, 11, 12]


def test_the_balanced_variant(folder):
  built = build(shakespeare_iid, folder, num_clients=9)
  assert built.simulation.train.sizes.tolist() == [9] * 8 + [8]
  both = [np.sort(one.simulation.train.examples['y'], axis=0)
          for one in (built, build(shakespeare_roles, folder))]
  np.testing.assert_array_equal(*both)


def test_errors(folder):
  with pytest.raises(ValueError, match='must be 0 or 10, .* shakespeare .* 9'):
    build(shakespeare_roles, folder, num_clients=9)
  with pytest.raises(ValueError, match='messages, shakespeare.*, got .mnist'):
    build(mnist_iid, folder, partition='natural')
  with pytest.raises(ValueError, match='num_clients must be .* >= 1, got 0'):
    build(shakespeare_iid, folder, num_clients=0)
  with pytest.raises(ValueError, match='clients_per_round.* 10.*11'):
    build(shakespeare_roles, folder, clients_per_round=11)
  with pytest.raises(ValueError, match='client_fraction'):
    build(shakespeare_roles, folder, client_fraction=1.5)

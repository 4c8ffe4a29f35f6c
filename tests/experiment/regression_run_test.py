"""A run and a sweep of numbers: nothing is reported that means nothing."""

import sys

import pytest

from configs import default
from fedjax_sim.experiment import run as run_lib
from fedjax_sim.experiment import run_sweep as run_sweep_lib
from fedjax_sim.experiment import sweep_settings, workdir

PARTS = """
import numpy as np
from flax import linen as nn

from fedjax_sim import models
from fedjax_sim.data.sets.load import Dataset


def heights(count=60):
  x = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
  one = {'x': x, 'y': x.sum(axis=1) + 2.0}
  return Dataset('heights', one, one, 1)


def line(num_classes):
  return models.from_linen(nn.Dense(num_classes), loss=models.mse)
"""


@pytest.fixture(name='config')
def _config(tmp_path, monkeypatch):
  monkeypatch.setenv('FEDJAX_SIM_CACHE_DIR', str(tmp_path / 'cache'))
  (tmp_path / 'number_parts.py').write_text(PARTS)
  monkeypatch.syspath_prepend(tmp_path)
  config = default.get_config()
  config.update(
      dataset='number_parts.heights', model='number_parts.line', num_clients=3,
      clients_per_round=2, rounds=3, client_test_fraction=0.3, devices=1,
      lanes=1, loss='huber(delta=2.0)')
  yield config
  sys.modules.pop('number_parts', None)


def test_a_regression_has_no_accuracy(config, tmp_path, capsys):
  config.metrics = 'rmse | mae | r2'
  assert run_lib.run(config, 'own', workdir_path=str(tmp_path / 'run')) == 0
  out = capsys.readouterr().out
  assert 'accuracy' not in out and 'rounds to' not in out
  assert 'best test rmse' in out and 'final test rmse' in out
  assert "clients' own test rmse" in out
  shown = [line for line in out.splitlines() if line.startswith('round 3/3')]
  assert 'test r2' in shown[0] and 'train loss' in shown[0]
  assert (tmp_path / 'run' / 'rmse.png').exists()
  assert not (tmp_path / 'run' / 'accuracy.png').exists()
  clients = workdir.read_json(tmp_path / 'run' / 'clients.json')
  for name, worst in (('rmse', max), ('mae', max), ('r2', min)):
    ends = clients[f'{name}/p10'], clients[f'{name}/p90']
    assert worst(clients[f'{name}/worst'], *ends) == clients[f'{name}/worst']
  # Once more, from the files alone.
  assert run_lib.run(config, 'own', workdir_path=str(tmp_path / 'run')) == 0
  assert 'best test rmse' in capsys.readouterr().out


def test_a_sweep_s_best_is_the_lowest_error(config, tmp_path, capsys):
  config.rounds, config.client_test_fraction = 2, 0.0
  fields = sweep_settings.parse(config, ['client_lr=0.1,0.001'])
  assert run_sweep_lib.run(config, 'own', fields, str(tmp_path / 'sweep')) == 0
  out = capsys.readouterr().out
  assert 'now best: test mae' in out and '(client_lr=0.1)' in out
  table = [line.split() for line in out.splitlines()
           if line.startswith('client_lr=')]
  found = {line[0]: float(line[2]) for line in table}
  assert found['client_lr=0.1'] < found['client_lr=0.001']
  assert 'to 97.0%' not in out

"""An algorithm and a model in a folder outside the repository."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from configs import default
from fedjax_sim.experiment import (
    build_run,
    build_sweep,
    metrics,
    sweep_settings,
    workdir,
)
from fedjax_sim.experiment import run as run_lib
from fedjax_sim.experiment import run_sweep as run_sweep_lib

ROOT = Path(__file__).parents[2]

PARTS = '''
from typing import Unpack

import optax
from flax import linen as nn

from fedjax_sim import algorithms, models
from fedjax_sim.clients.local_training import TrainingOptions
from fedjax_sim.core import specs


@specs.traceable('beta', 'scale')
def feddelay(model, client_lr, *, beta, scale=1.0, aggregator=None,
             **training: Unpack[TrainingOptions]):
  return algorithms.fedavg(
      model, optax.sgd(client_lr), optax.sgd(scale, momentum=beta),
      aggregator=aggregator, **training)


class Narrow(nn.Module):
  classes: int
  width: int

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Dense(self.width)(x.reshape(x.shape[0], -1)))
    return nn.Dense(self.classes)(x)


def narrow(num_classes, width):
  return models.from_linen(Narrow(num_classes, width))
'''
CONFIG = '''
from configs import digits_quickstart


def get_config():
  config = digits_quickstart.get_config()
  config.algorithm = 'own_parts.feddelay(beta=0.5)'
  config.model = 'own_parts.narrow(width=4)'
  config.rounds, config.devices, config.lanes = 2, 1, 5
  return config
'''


@pytest.fixture(name='get_config')
def _get_config(tmp_path, monkeypatch):
  """The folder's `get_config`; the folder is on the path, as with run.py."""
  monkeypatch.setenv('FEDJAX_SIM_CACHE_DIR', str(tmp_path / 'cache'))
  (tmp_path / 'own_parts.py').write_text(PARTS)
  (tmp_path / 'own_config.py').write_text(CONFIG)
  monkeypatch.syspath_prepend(tmp_path)
  yield importlib.import_module('own_config').get_config
  for name in ('own_config', 'own_parts'):
    sys.modules.pop(name, None)


DATA = """
import numpy as np

from fedjax_sim import models
from fedjax_sim.data.sampling import Sampler
from fedjax_sim.data.sets.load import Dataset


def dots(count=12, seed=0):
  x = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
  one = {'x': x, 'y': (x[:, 0] > 0).astype(np.int32)}
  return Dataset('dots', one, one, 2)


def striped(labels, num_clients, *, step=1):
  order = np.arange(len(labels)) * step % len(labels)
  return [order[i::num_clients] for i in range(num_clients)]


def always(num_clients, clients_per_round, *, first=0):
  chosen = first + np.arange(clients_per_round, dtype=np.int32)
  return Sampler(lambda r: chosen, clients_per_round, num_clients)


def broken_loss(outputs, examples):
  return 1 / 0


def broken_model(num_classes):
  return models.from_functions(
      lambda key, x: {}, lambda params, x: 1 / 0, loss=squared)


def squared(outputs, examples):
  return ((outputs - examples['y'][:, None]) ** 2).sum(axis=1)
"""


def losses(file):
  return [row['train/loss'] for row in metrics.read(file) if row['round']]


def test_they_run_resume_and_are_swept_without_an_edit(
    get_config, tmp_path, monkeypatch, capsys):
  folder = tmp_path / 'run'
  done = subprocess.run(
      [sys.executable, str(ROOT / 'run.py'), f'--workdir={folder}',
       f'--config={tmp_path / "own_config.py"}'], cwd=ROOT, text=True,
      capture_output=True)
  assert done.returncode == 0, done.stderr
  assert 'own_parts.feddelay(beta=0.5)' in done.stdout

  config = get_config()
  config.rounds = 4
  assert run_lib.run(config, 'own', workdir_path=str(folder)) == 0
  assert 'resumed after round 2' in capsys.readouterr().out
  assert workdir.read_json(folder / 'clients.json')['accuracy/mean'] > 0.05
  own = losses(folder / 'metrics.jsonl')

  fields = sweep_settings.parse(config, [
      'algorithm=own_parts.feddelay(beta=0.5, scale=1.0),'
      'own_parts.feddelay(scale=0.5, beta=0.1)'])
  built = []
  original = build_sweep.build_sweep
  monkeypatch.setattr(build_sweep, 'build_sweep', lambda *args, **options: (
      built.append(original(*args, **options)), built[-1])[1])
  assert run_sweep_lib.run(config, 'own', fields, str(tmp_path / 'sweep')) == 0
  ((_, members),) = built  # One program.
  assert [m.hyperparameters for m in members] == [
      {'algorithm.beta': 0.5, 'algorithm.scale': 1.0},
      {'algorithm.beta': 0.1, 'algorithm.scale': 0.5}]
  first, second = (tmp_path / 'sweep' / f'algorithm={text}'
                   for text in fields['algorithm'])
  assert losses(first / 'metrics.jsonl') == pytest.approx(own, rel=1e-5)
  assert losses(second / 'metrics.jsonl')[-1] != pytest.approx(
      own[-1], rel=1e-3)
  for one in (first, second):
    assert workdir.read_json(one / 'clients.json')['accuracy/mean'] > 0.05


def test_data_partition_sampler_and_loss_of_a_user(tmp_path, monkeypatch):
  (tmp_path / 'own_data.py').write_text(DATA)
  monkeypatch.syspath_prepend(tmp_path)
  config = default.get_config()
  config.update({
      'dataset': 'own_data.dots(count=10)', 'partition': 'own_data.striped',
      'model': 'logistic_regression', 'loss': 'own_data.squared',
      'sampler': 'own_data.always(first=2)', 'num_clients': 5,
      'clients_per_round': 3})
  simulation = build_run.build(config, build_run.Shape(1, 1)).simulation
  assert simulation.train.sizes.tolist() == [2] * 5
  assert simulation.sampler.sample(7).tolist() == [2, 3, 4]
  assert simulation.model.loss.__name__ == 'squared'
  for field, text in (('model', 'own_data.dots'),
                      ('algorithm', 'numpy.float32'),
                      ('uplink', 'own_data.dots | clip(1.0)')):
    wrong = config.copy_and_resolve_references()
    wrong[field] = text
    with pytest.raises(ValueError, match=f'{field}=.* must make a '):
      build_run.build(wrong, build_run.Shape(1, 1))
  for field, text in (('model', 'own_data.broken_model'),
                      ('loss', 'own_data.broken_loss')):
    wrong = config.copy_and_resolve_references()
    wrong[field] = text
    with pytest.raises(ValueError, match=f'^config.{field}={text}: .*by zero'):
      build_run.build(wrong, build_run.Shape(1, 1))
  sys.modules.pop('own_data')

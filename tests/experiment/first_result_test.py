"""What stands between a call and its first round: how much is compiled."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import fedjax_sim as fs
from fedjax_sim.clients import gradients
from fedjax_sim.core import reuse
from fedjax_sim.data import sampling
from fedjax_sim.simulation import autotune, measuring
from fedjax_sim.simulation import build as build_lib
from tests import toys

_CHOOSE = autotune.choose  # Which conftest.py replaces.
_COMPILED = '/jax/core/compile/backend_compile_duration'


@contextlib.contextmanager
def compilations():
  """Collects the names of programs that are compiled, or read from disk."""
  names = []
  def listen(event, seconds, **fields):
    if event == _COMPILED:
      names.append(fields.get('fun_name'))
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield names
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


def simulate(model, algorithm, sizes=(30, 30, 4, 17), **options):
  return fs.simulate(
      model, algorithm, toys.softmax_data(sizes), clients_per_round=3,
      test=toys.softmax_data([25], seed=0).examples,
      **{'rounds': 2, 'devices': 2, 'lanes': 1} | options)


MODEL = toys.softmax_model()
FEDAVG = fs.algorithms.fedavg(MODEL, optax.sgd(0.1), batch_size=5)


def test_the_same_job_again_compiles_nothing():
  simulate(MODEL, FEDAVG)
  for change in ({}, {'seed': 3}, {'rounds': 5}, {'eval_every': 2},
                 {'sizes': (4, 17, 30, 30)}):
    with compilations() as names:
      simulate(MODEL, FEDAVG, **change)
    assert names == [], change


def test_the_same_program_gives_the_same_bits():
  first, second = (simulate(MODEL, FEDAVG) for _ in range(2))
  other = simulate(MODEL, FEDAVG, seed=1)
  w = lambda result: np.asarray(result.variables.params['w'])
  np.testing.assert_array_equal(w(first), w(second))
  assert (w(first) != w(other)).any()


def test_another_program_is_compiled():
  simulate(MODEL, FEDAVG)
  other = fs.algorithms.fedavg(MODEL, optax.sgd(0.2), batch_size=5)
  for change in ({'lanes': 2}, {'devices': 1}, {'sizes': (30, 30, 5, 17)},
                 {'algorithm': other}):
    with compilations() as names:
      simulate(**{'model': MODEL, 'algorithm': FEDAVG} | change)
    assert 'jit(run)' in names, change


def test_a_short_job_compiles_its_rounds_once_and_measures_nothing(
    monkeypatch):
  monkeypatch.setattr(autotune, 'choose', _CHOOSE)
  monkeypatch.setattr(measuring, '_time', None)
  with compilations() as names:
    records = simulate(
        MODEL, FEDAVG, devices='auto', lanes='auto').records
  assert names.count('jit(run)') == 1
  assert len(names) <= 10, names
  assert (records[1]['devices'], records[1]['lanes']) == (3, 1)


def test_the_model_is_traced_a_few_times_in_all():
  """Local training, evaluation, and their shapes; not anew for each of them."""
  traced = []
  def apply(*args, **kwargs):
    traced.append(kwargs['train'])
    return MODEL.apply(*args, **kwargs)
  model = MODEL._replace(apply=apply)
  algorithm = fs.algorithms.fedavg(model, optax.sgd(0.1), batch_size=5)
  simulate(model, algorithm)
  # For the checks with two sizes of batches, outside of the mesh for shapes,
  # and on it for the program; local training and evaluation ask for shapes
  # eight times.
  assert max(traced.count(True), traced.count(False)) <= 6, traced


@pytest.mark.parametrize('progress', [True, False])
def test_it_is_said_what_takes_a_while_where_progress_is(capsys, progress):
  simulate(MODEL, FEDAVG, progress=progress)
  assert ('compiling the rounds ...' in capsys.readouterr().out) == progress


@pytest.mark.parametrize('lanes', [1, 2])
def test_what_is_traced_once_is_the_same_program(monkeypatch, lanes):
  def program():
    reuse.forget()
    return build_lib.build(
        MODEL, FEDAVG, toys.softmax_data((30, 30, 4, 17)),
        sampling.uniform(4, 3, 0), devices=2, lanes=lanes,
    ).program.traced.lower().as_text()
  once = program()
  every_time = gradients._mean_gradient(MODEL).__wrapped__
  monkeypatch.setattr(gradients, '_mean_gradient', lambda model: every_time)
  assert program() == once


_JOB = '''
import sys
import jax, optax
import fedjax_sim as fs
from tests import toys
asked = []
jax.monitoring.register_event_listener(lambda event, **_: asked.append(event))
model = toys.softmax_model()
fs.simulate(
    model, fs.algorithms.fedavg(model, optax.sgd(0.1), batch_size=5),
    toys.softmax_data((30, 30, 4, 17)), rounds=2, clients_per_round=3,
    test=toys.softmax_data([25], seed=0).examples)
name = '/jax/compilation_cache/'
print(asked.count(name + 'compile_requests_use_cache'),
      asked.count(name + 'cache_hits'))
'''


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path):
  environment = {k: v for k, v in os.environ.items()
                 if not k.startswith('JAX_')}
  environment |= {'FEDJAX_SIM_CACHE_DIR': str(tmp_path),
                  'PYTHONPATH': str(Path(__file__).parents[2])}
  run = lambda: [int(word) for word in subprocess.run(
      [sys.executable, '-c', _JOB], env=environment, check=True,
      capture_output=True, text=True).stdout.split()]
  programs, found = run()
  assert programs > 3 and found == 0
  assert run() == [programs, programs]

"""What a run says of the privacy of its model."""

import json

import pytest

from configs import digits_quickstart
from fedjax_sim import privacy
from fedjax_sim.experiment import run as run_lib
from fedjax_sim.experiment import run_sweep, workdir

PRIVATE = 'private_mean(0.5, noise=2.0)'


def config(**fields):
  made = digits_quickstart.get_config()
  made.update({'rounds': 2, 'model': 'logistic_regression', 'devices': 1,
               'lanes': 5, 'aggregate': PRIVATE} | fields)
  return made


def run(folder, **fields):
  assert run_lib.run(config(**fields), 'x', workdir_path=folder) == 0
  return workdir.read_json(folder / 'privacy.json')


def test_epsilon_is_that_of_the_rounds_done(tmp_path, capsys):
  expected = lambda rounds: privacy.guarantee(
      2.0, rounds=rounds, num_clients=20, cohort_size=10)
  found = run(tmp_path, sampler='poisson')
  assert found['epsilon'] == expected(2).epsilon
  assert capsys.readouterr().out.count(str(expected(2))) == 2  # First and last.
  assert run(tmp_path, sampler='poisson', rounds=3)['epsilon'] == (
      expected(3).epsilon)


@pytest.mark.parametrize('fields, said', [
    ({}, '10 of 20 without replacement'),
    ({'aggregate': 'private_mean(0.5, noise=0.0)'}, 'epsilon inf at delta'),
    ({'systems': 'lognormal'}, 'no epsilon: with systems'),
    ({'sampler': 'by_size'}, 'no epsilon: no accountant covers this sampler')])
def test_what_no_accountant_covers_is_said(tmp_path, capsys, fields, said):
  run(tmp_path, **fields)
  closing = capsys.readouterr().out.rpartition('rounds ')[0]
  assert said in closing


def test_two_exchanges_cost_twice(tmp_path):
  found = run(tmp_path, algorithm='mime', sampler='poisson', rounds=1)
  assert found['epsilon'] == pytest.approx(privacy.guarantee(
      2.0 / 2 ** 0.5, rounds=1, num_clients=20, cohort_size=10).epsilon)


def test_runs_of_a_sweep_have_their_own(tmp_path, capsys):
  run_sweep.run(config(sampler='poisson'), 'x', {
      'aggregate': [PRIVATE, 'private_mean(0.5, noise=3.0)']},
      workdir_path=tmp_path)
  found = [json.loads(path.read_text())['epsilon']
           for path in sorted(tmp_path.glob('*/privacy.json'))]
  assert found == [privacy.guarantee(
      noise, rounds=2, num_clients=20, cohort_size=10).epsilon
      for noise in (2.0, 3.0)]
  assert f'{found[1]:.4g} (0.0371)' in capsys.readouterr().out

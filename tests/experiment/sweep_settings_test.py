"""Sweeps: values of specs, and which runs share a program."""

import pytest

from configs import default
from fedjax_sim.experiment import build_sweep, sweep_group, sweep_settings


def groups(*texts, **changes):
  config = default.get_config()
  config.update(changes)
  return sweep_settings.groups(config, sweep_settings.parse(config, texts))


def numbers(*texts, **changes):
  ((config, settings),) = groups(*texts, **changes)
  return [member.hyperparameters
          for member in build_sweep.sweep_members(config, settings)]


def test_traceable_numbers_of_specs_share_a_program():
  assert numbers('algorithm=ditto(lam=0.1),ditto(lam=1)') == [
      {'algorithm.lam': 0.1}, {'algorithm.lam': 1.0}]
  assert numbers(
      'algorithm=pfedme(lam=1,personal_lr=0.1),pfedme(lam=2,personal_lr=0.1)'
  ) == [{'algorithm.lam': 1.0}, {'algorithm.lam': 2.0}]
  assert numbers(
      'client_optimizer=clip_by_global_norm(1.0)|sgd,clip_by_global_norm(2.0)'
      '|sgd', 'client_lr=0.1,0.2')[1] == {
          'client_optimizer.0.max_norm': 1.0, 'client_lr': 0.2}
  assert numbers('server_optimizer=fedadam(tau=0.1),fedadam(tau=0.2)')[1] == {
      'server_optimizer.tau': 0.2}


def test_what_a_program_is_made_for_is_not_traced():
  """Neither is a number that all runs have, nor that of a sweep of one."""
  for texts in (['partition=dirichlet(0.1),dirichlet(0.2)'],
                ['algorithm=ifca(clusters=2),ifca(clusters=3)'],
                ['algorithm=fedavg,scaffold'],
                ['algorithm=ditto(lam=1),ditto(lam=1,stragglers=0.5)']):
    assert len(groups(*texts)) == 2
  ((config, settings),) = groups('algorithm=ditto(lam=2)', 'client_lr=0.3')
  assert settings == [{'seed': 0}] and config.client_lr == 0.3
  assert config.algorithm == 'ditto(lam=2)'


def test_seeds_share_a_program_unless_a_builder_is_given_them():
  ((_, settings),) = groups('seed=3,4')
  assert settings == [{'seed': 3}, {'seed': 4}]
  noisy = 'noisy_sgd(eta=0.1)'
  assert [one.seed for one, _ in groups(
      'seed=3,4', client_optimizer=noisy)] == [3, 4]


def test_a_partition_with_a_seed_of_its_own_is_shared():
  def federations(partition):
    ((config, settings),) = groups('seed=3,4', partition=partition)
    return [m.federation for m in build_sweep.sweep_members(config, settings)]
  assert federations('iid') == [0, 1]
  assert federations('iid(seed=7)') == [0, 0]


def test_values_are_split_outside_of_parentheses():
  config = default.get_config()
  assert sweep_settings.parse(config, [
      'algorithm=ditto(stragglers=0.1, lam=1e-1),fedavg()', 'lanes=1,2']) == {
          'algorithm': ['ditto(lam=0.1, stragglers=0.1)', 'fedavg'],
          'lanes': [1, 2]}


@pytest.mark.parametrize('texts, message', [
    (['client_lr=0.1', 'client_lr=0.2'], 'client_lr is given twice'),
    (['algorithm=fedavg,fedavg()'], 'the values of algorithm must differ'),
    (['algorithm=ditto(lam=1),dito(lam=2)'], "Did you mean 'ditto'"),
    (['regularization=0.1,1'], 'no field regularization any more.*'
     "'algorithm=ditto\\(lam=0.1\\),ditto\\(lam=1\\)'"),
    (['dirichlet_alpha=0.1,1'], 'partition=dirichlet'),
    (['pixels=zero_to_one,centered'], 'preprocess=centered')])
def test_what_is_no_sweep(texts, message):
  with pytest.raises(ValueError, match=message):
    sweep_settings.parse(default.get_config(), texts)


@pytest.mark.parametrize('text', [
    'algorithm=ditto(lam=1),ditto(lam=1.0)',
    'server_optimizer=adam,adam(b1=0.9)'])
def test_spellings_of_one_run_are_refused(text):
  with pytest.raises(ValueError, match='must differ'):
    sweep_settings.parse(default.get_config(), [text])


def test_an_empty_value_has_a_name():
  config = default.get_config()
  assert sweep_settings.label(
      ['uplink', 'client_lr'], config, {'uplink': '', 'client_lr': 0.1}
  ) == 'uplink=none,client_lr=0.1'


def test_a_runs_folder_stays_in_that_of_the_sweep(tmp_path):
  labels = ['client_lr=0.1', 'data_dir=../../a', 'data_dir=.._.._a',
            'dataset=tfds("a/b")', 'dataset=tfds("a_b")',
            f'algorithm={"a" * 400}', f'algorithm={"a" * 401}']
  folders = [sweep_group.folder_of(tmp_path, label) for label in labels]
  assert folders[0].name == labels[0]
  assert len(set(folders)) == len(labels)
  for folder in folders:
    folder.mkdir()
    assert folder.resolve().parent == tmp_path.resolve()

"""Old flat fields: refused, with what to write instead."""

import pytest

from configs import default
from fedjax_sim.core import builders
from fedjax_sim.experiment import check_config, moved_fields, spec_fields


def texts_of(**changes):
  config = default.get_config()
  config.update(changes)
  return {field: config[field] for field in spec_fields.spaces()}


@pytest.mark.parametrize('old, texts, new', [
    ({'dirichlet_alpha': 0.3}, {}, {'partition': 'dirichlet(alpha=0.3)'}),
    ({'dirichlet_alpha': 0.3, 'min_client_size': 10},
     {'partition': 'dirichlet'},
     {'partition': 'dirichlet(alpha=0.3, min_size=10)'}),
    ({'min_client_size': 10}, {'partition': 'dirichlet(0.1, min_size=20)'},
     {'partition': 'dirichlet(0.1, min_size=10)'}),
    ({'min_client_size': 10}, {'partition': 'quantity'},
     {'partition': 'quantity(sigma=1.0, min_size=10)'}),
    ({'shards_per_client': 4}, {},
     {'partition': 'shards(shards_per_client=4)'}),
    ({'pixels': 'centered'}, {}, {'model': 'mnist_2nn(preprocess=centered)'}),
    ({'control_option': 1}, {}, {'algorithm': 'scaffold(option=1)'}),
    ({'regularization': 1.0}, {}, {'algorithm': 'ditto(lam=1.0)'}),
    ({'regularization': 1.0}, {'algorithm': 'feddyn'},
     {'algorithm': 'feddyn(alpha=1.0)'}),
    ({'moreau': 3}, {}, {'algorithm': 'pfedme(personal_lr=0.05, lam=3)'}),
    ({'mixing': 0.2}, {'algorithm': 'apfl'}, {'algorithm': 'apfl(alpha=0.2)'}),
    ({'fairness': 0}, {}, {'algorithm': 'q_fedavg(q=0)'}),
    ({'clusters': 4}, {}, {'algorithm': 'ifca(clusters=4)'}),
    ({'personal_params': 'dense_1'}, {'algorithm': 'fedrep'},
     {'algorithm': "fedrep(personal='dense_1')"}),
    ({'head_epochs': 5}, {},
     {'algorithm': "fedrep(personal='dense_2', head_epochs=5)"}),
    ({'steps_per_round': 600}, {},
     {'algorithm': 'centralized_sgd(steps_per_round=600)'}),
    ({'proximal': 0.1}, {}, {'algorithm': 'fedavg(proximal=0.1)'}),
    ({'proximal': 0.1, 'stragglers': 0.9}, {'algorithm': 'fedprox'},
     {'algorithm': 'fedprox(mu=0.1, stragglers=0.9)'}),
    ({'personal_lr': 0.1}, {'algorithm': 'pfedme(lam=15)'},
     {'algorithm': 'pfedme(lam=15, personal_lr=0.1)'}),
    ({'personal_lr': 0.1}, {}, {'algorithm': 'per_fedavg(personal_lr=0.1)'}),
    ({'finetune_epochs': 5, 'personal_lr': 0.1}, {}, {
        'algorithm': 'finetune(fedavg, local_training(sgd(0.1), epochs=5))'}),
    ({'client_momentum': 0.5}, {}, {'client_optimizer': 'sgd(momentum=0.5)'}),
    ({'stragglers': 0.5, 'finetune_epochs': 4},
     {'algorithm': 'finetune(fedprox(mu=0.1), local_training(sgd(0.1)))'}, {
         'algorithm': 'finetune(fedprox(mu=0.1, stragglers=0.5), '
                      'local_training(sgd(0.1), epochs=4))'}),
    ({'client_momentum': 0.5}, {'algorithm': 'fednova'},
     {'algorithm': 'fednova(momentum=0.5)'}),
    ({'client_momentum': 0.5, 'client_clip_norm': 2.0}, {}, {
        'client_optimizer': 'clip_by_global_norm(2.0) | sgd(momentum=0.5)'}),
    ({'client_weight_decay': 1e-3, 'client_clip_norm': 2.0}, {}, {
        'client_optimizer':
            'clip_by_global_norm(2.0) | add_decayed_weights(0.001) | sgd'}),
    ({'server_momentum': 0.9, 'server_optimizer': 'fedavgm'}, {},
     {'server_optimizer': 'sgd(momentum=0.9)'}),
    ({'server_momentum': 0.9}, {'server_optimizer': 'fedavgm'},
     {'server_optimizer': 'fedavgm(momentum=0.9)'}),
    ({'server_tau': 0.1, 'server_beta1': 0.5, 'server_beta2': 0.9},
     {'server_optimizer': 'fedyogi'},
     {'server_optimizer': 'fedyogi(tau=0.1, beta1=0.5, beta2=0.9)'}),
])
def test_the_new_text_has_the_value_and_fits(old, texts, new):
  old = {name: value for name, value in old.items()
         if name in moved_fields.NAMES}
  assert moved_fields.new_texts(old, texts_of(**texts)) == new
  for field, text in new.items():
    builders.bind(text, spec_fields.spaces()[field])


def test_every_old_field_has_a_new_text():
  for name in moved_fields.NAMES:
    value = {'pixels': 'centered', 'personal_params': 'dense_2'}.get(name, 1)
    for field, text in moved_fields.new_texts(
        {name: value}, texts_of()).items():
      builders.bind(text, spec_fields.spaces()[field])


@pytest.mark.parametrize('old, texts', [
    ({'client_momentum': 0.5}, {'client_optimizer': 'adam'}),
    ({'stragglers': 0.5}, {'algorithm': 'centralized_sgd'})])
def test_what_did_nothing_is_to_be_left_out(old, texts):
  with pytest.raises(ValueError, match='did nothing .* leave it out'):
    moved_fields.refuse(old, texts_of(**texts))


@pytest.mark.parametrize('command, new', [
    # Of the README and the configs, as they were.
    ('--config.pixels=centered',
     "--config.model='mnist_2nn(preprocess=centered)'"),
    ('--config.server_optimizer=fedavgm --config.server_momentum=0.9',
     "--config.server_optimizer='fedavgm(momentum=0.9)'"),
    ('--config.algorithm=q_fedavg --config.fairness=0',
     "--config.algorithm='q_fedavg(q=0)'"),
    ('--config.algorithm=fedprox --config.proximal=0',
     "--config.algorithm='fedprox(mu=0)'"),
    ('--config.algorithm=fedavg --config.finetune_epochs=5',
     "--config.algorithm='finetune(fedavg, local_training(sgd(0.05), "
     "epochs=5))'"),
    ('--config.personal_params dense_1 --config.algorithm=fedper',
     '--config.algorithm="fedper(personal=\'dense_1\')"')])
def test_old_command_lines_are_told_the_new_one(command, new):
  argv = ['run.py', *command.split(), '--config.seed=3']
  old, rest = moved_fields.from_flags(argv)
  assert len(old) == 1 and '--config.seed=3' in rest
  given = dict(flag.removeprefix('--config.').split('=') for flag in rest[1:])
  given.pop('seed')
  with pytest.raises(ValueError, match='no such field any more') as told:
    moved_fields.refuse(old, texts_of(**given))
  assert f'Write {new}' in str(told.value)


def test_a_config_file_with_old_fields_is_told_the_lines():
  config = default.get_config()
  config.partition = 'dirichlet'
  config.dirichlet_alpha = 0.3
  with pytest.raises(ValueError, match='dirichlet_alpha=0.3') as told:
    check_config.validate(config)
  assert "--config.partition='dirichlet(alpha=0.3)'" in str(told.value)
  assert "config.partition = 'dirichlet(alpha=0.3)'" in str(told.value)

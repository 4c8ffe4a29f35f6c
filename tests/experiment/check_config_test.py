"""Configs: what is out of range, unknown, or would have no effect."""

import pytest

from configs import default
from fedjax_sim.core import compilation
from fedjax_sim.experiment import spec_fields
from fedjax_sim.experiment.check_config import validate


def config_of(**changes):
  config = default.get_config()
  config.update(changes)
  return config


@pytest.mark.parametrize('changes, message', [
    ({'client_rl': 0.1}, "client_rl.*Did you mean 'client_lr'"),
    ({'local_epochs': 0}, 'local_epochs must be positive'),
    ({'local_steps': -1}, 'local_steps must be a whole number >= 0'),
    ({'num_clients': 0}, 'num_clients must be a whole number >= 1'),
    ({'clients_per_round': 101}, 'clients_per_round must be at most'),
    ({'weighting': 'sizes'}, 'weighting must be one of examples, uniform'),
    ({'dataset': 'minst'}, "dataset must be one of .*Did you mean 'mnist'"),
    ({'partition': 'dirichlet'},
     r'dirichlet needs alpha. It is dirichlet\(alpha, min_size=1'),
    ({'partition': 'shards(2, alpha=1)'}, "shards has no argument 'alpha'"),
    ({'model': 'mnist_2nn | mnist_cnn'}, 'model must name one thing'),
    ({'algorithm': 'ditto'}, r'ditto needs lam. It is ditto\(lam'),
    ({'algorithm': 'ditto(lamb=1)'}, "Did you mean 'lam'"),
    ({'client_optimizer': 'sgd(lr=1)'},
     "no argument 'lr'. Its learning_rate is given by the field client_lr"),
    ({'algorithm': 'fedavg(proximl=1)'}, "Did you mean 'proximal'"),
    ({'algorithm': ''}, 'algorithm must be a name or a call'),
    ({'algorithm': 'dpsgd(graph=rng)'},
     r"\): graph must be one of complete, .*, torus, .*'ring'\?$"),
    ({'algorithm': 'fedbuff(staleness=poly(0.5))'},
     "staleness must be one of constant, hinge, polynomial, .*'polynomial'"),
    ({'reporting': 'async(concurrency=10)'},
     r"such as 'window\(.*\)', got .*: 'async' is .*'asynchronous'\?$"),
    ({'reporting': 'window(late=drop)'}, 'late must be text, got the name'),
    ({'client_optimizer': 'adam(0.01)'}, 'the field client_lr'),
    ({'client_optimizer': 'fedadam'},
     'client_optimizer must be one of [0-9]+ names, such as adam'),
    ({'client_optimizer': 'scale(-0.1)'}, 'by the field client_lr'),
    ({'server_optimizer': 'sgd(learning_rate=1.0)'}, 'by the field server_lr'),
    ({'loss': 'cross_entropi'}, "Did you mean 'cross_entropy'"),
    ({'client_eval_every': 2}, 'client_eval_every must be 0 unless client_tes'),
    ({'best_mode': 'max'}, "best_mode must be '' without best_metric"),
    ({'best_metric': 'test/loss', 'best_mode': 'top'}, 'best_mode must be one'),
    ({'record_cohort': 1}, 'record_cohort must be True or False'),
    ({'aggregate': 'masked_mean', 'uplink': 'clip(1.0)'},
     'aggregate stands for uplink and reduce'),
])
def test_what_is_wrong_is_told(changes, message):
  with pytest.raises(ValueError, match=message):
    validate(config_of(**changes))


@pytest.mark.parametrize('changes, message', [
    ({'algorithm': 'scaffold', 'client_optimizer': 'adam'},
     "client_optimizer must be 'sgd' for algorithm=scaffold"),
    ({'algorithm': 'fedsgd', 'local_epochs': 2}, 'local_epochs must be 1'),
    ({'algorithm': 'fedsgd', 'batch_size': 50}, 'batch_size must be 10'),
    ({'algorithm': 'centralized_sgd', 'server_lr': 0.5},
     'server_lr must be 1 for algorithm=centralized_sgd'),
    ({'algorithm': 'fedexp', 'server_optimizer': 'fedadam'},
     "server_optimizer must be 'sgd'"),
    ({'algorithm': 'mime', 'server_lr': 0.5}, 'server_lr must be 1'),
    ({'partition': 'natural', 'dataset': 'digits', 'data_dir': '/tmp'},
     "data_dir must be '' for dataset=digits"),
    ({'algorithm': 'centralized_sgd', 'uplink': 'clip(1.0)'}, 'aggregator'),
    ({'algorithm': 'fedavg(client_optimizer=sgd(0.3))'},
     r'client_optimizer must not be given here.* field client_optimizer'),
    ({'algorithm': 'finetune(fedavg(epochs=2), local_training(sgd(0.1)))'},
     'epochs must not be given here.* field local_epochs'),
    ({'sampler': 'uniform(clients_per_round=3)'}, 'clients_per_round must not'),
    ({'local_steps': 3, 'local_epochs': 2}, 'local_epochs must be 1 beside'),
    ({'full_batch': True, 'batch_size': 20}, 'batch_size must be 10 beside'),
    ({'micro_batch_size': 64},
     'micro_batch_size must be 256 without full_batch'),
    ({'micro_batch_size': 64, 'algorithm': 'ditto(lam=0.1)'},
     'micro_batch_size must be 256 without full_batch'),
])
def test_a_field_without_effect_is_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    validate(config_of(**changes))


def test_a_field_that_a_nested_builder_takes_has_an_effect():
  nested = 'finetune(scaffold, local_training(sgd(0.1), epochs=2))'
  validate(config_of(algorithm=nested, local_epochs=2))
  with pytest.raises(ValueError, match="client_optimizer must be 'sgd'"):
    validate(config_of(algorithm=nested, client_optimizer='adam'))


def test_a_config_that_lacks_fields_is_told_which():
  config = default.get_config()
  del config['uplink']
  with pytest.raises(ValueError, match='the config has no uplink'):
    validate(config)


def test_an_unknown_word_for_cuda_graphs_is_told_before_data_is_read(
    monkeypatch):
  monkeypatch.setenv(compilation.GRAPHS_VARIABLE, 'none')
  with pytest.raises(ValueError, match='^FEDJAX_SIM_CUDA_GRAPHS must be'):
    validate(default.get_config())


def test_the_examples_that_errors_show_are_specs():
  for field, text in spec_fields.EXAMPLES.items():
    assert spec_fields.bind(field, text) is not None

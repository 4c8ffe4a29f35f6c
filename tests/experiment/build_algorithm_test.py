"""Every algorithm by its name in a config; fields that it can't have."""

import jax
import numpy as np
import optax
import pytest

from configs import default
from fedjax_sim import algorithms, models
from fedjax_sim.experiment import build_algorithm
from fedjax_sim.experiment.build_algorithm import make_algorithm, validate
from fedjax_sim.simulation import simulate as simulate_lib
from tests import toys

MODEL = toys.softmax_model()
DATA = toys.softmax_data([5, 1, 11])


def config_of(**changes):
  config = default.get_config()
  config.batch_size, config.local_epochs = 4, 2
  config.personal_params, config.head_epochs = '/b$', 1.0
  config.update(changes)
  return config


def train(algorithm, rounds=2):
  return simulate_lib.simulate(
      MODEL, algorithm, DATA, rounds=rounds, client_fraction=1.0, lanes=1)


@pytest.mark.parametrize('name', sorted(
    build_algorithm._BUILDERS.keys() - {'centralized_sgd', 'fedbn'}))
def test_every_algorithm_can_be_named(name):
  alone = name in build_algorithm._WITHOUT_WORK
  config = config_of(algorithm=name, local_epochs=1 if alone else 2)
  validate(config)
  result = train(make_algorithm(config, MODEL), rounds=1)
  assert np.isfinite(result.rows[-1]['train/loss'])


@pytest.mark.parametrize('changes, algorithm', [
    ({'algorithm': 'scaffold', 'control_option': 1},
     lambda work: algorithms.scaffold(MODEL, 0.1, option=1, **work)),
    ({'algorithm': 'feddyn', 'regularization': 0.3},
     lambda work: algorithms.feddyn(MODEL, optax.sgd(0.1), alpha=0.3, **work)),
    ({'algorithm': 'fednova', 'client_momentum': 0.5, 'proximal': 0.2},
     lambda work: algorithms.fednova(MODEL, 0.1, momentum=0.5, proximal=0.2,
                                     **work)),
    ({'algorithm': 'fedprox', 'proximal': 0.2, 'server_optimizer': 'fedadam',
      'server_lr': 0.01},
     lambda work: algorithms.fedprox(
         MODEL, optax.sgd(0.1), algorithms.fedadam(0.01), mu=0.2, **work)),
    ({'algorithm': 'q_fedavg', 'fairness': 2.0},
     lambda work: algorithms.q_fedavg(MODEL, 0.1, q=2.0, **work)),
    ({'local_steps': 3},
     lambda work: algorithms.fedavg(
         MODEL, optax.sgd(0.1), **work | {'steps': 3})),
    ({'local_epochs': 1.5},
     lambda work: algorithms.fedavg(
         MODEL, optax.sgd(0.1), **work | {'epochs': 1.5})),
])
def test_fields_reach_the_algorithm(changes, algorithm):
  work = {'epochs': 2, 'batch_size': 4, 'weighting': 'examples'}
  got = train(make_algorithm(config_of(**changes), MODEL))
  want = train(algorithm(work))
  plain = train(algorithms.fedavg(MODEL, optax.sgd(0.1), **work))
  np.testing.assert_allclose(got.variables.params['w'],
                             want.variables.params['w'], rtol=1e-6)
  assert np.abs(got.variables.params['w']
                - plain.variables.params['w']).max() > 1e-4


def test_finetuning_is_for_evaluation():
  algorithm = make_algorithm(
      config_of(finetune_epochs=3.0, personal_lr=0.1), MODEL)
  state = train(algorithm).state
  (own, *_) = toys.personal_models(algorithm, state, DATA)
  assert np.abs(own.params['w'] - state.server.variables.params['w']
                ).max() > 1e-3


@pytest.mark.parametrize('changes, message', [
    ({'algorithm': 'scafold'}, "Did you mean 'scaffold'"),
    ({'stragglers': 1.5}, 'stragglers'), ({'mixing': -0.1}, 'mixing'),
    ({'proximal': -1.0}, 'proximal'), ({'clusters': 0}, 'clusters'),
    ({'local_epochs': 0}, 'local_epochs'), ({'local_steps': -1}, 'local_steps'),
    ({'algorithm': 'scaffold', 'client_optimizer': 'adam'}, 'must be sgd'),
    ({'algorithm': 'scaffold', 'client_momentum': 0.9}, 'client_momentum'),
    ({'algorithm': 'scaffold', 'proximal': 0.1}, 'proximal'),
    ({'algorithm': 'fedexp', 'server_lr': 0.5}, 'server_optimizer'),
    ({'algorithm': 'scaffold', 'control_option': 3}, 'option'),
    ({'algorithm': 'fedsgd', 'local_epochs': 1, 'stragglers': 0.5},
     'stragglers must be 0 for fedsgd'),
    ({'algorithm': 'apfl', 'proximal': 0.1}, 'proximal must not be given'),
    ({'server_optimizer': 'fedavgm'}, 'server_momentum must be set'),
    ({'client_momentum': 1.5}, 'client_momentum must lie in'),
    ({'algorithm': 'fedper', 'personal_params': '('}, 'regular expression'),
])
def test_what_an_algorithm_cannot_have(changes, message):
  config = config_of(**changes)
  with pytest.raises(ValueError, match=message):
    validate(config)
    make_algorithm(config, MODEL)


@pytest.mark.parametrize('changes, own', [
    ({}, {}), ({'algorithm': 'ditto'}, {'regularization': 0.1}),
    ({'algorithm': 'pfedme'}, {'personal_lr': 0.05, 'moreau': 15.0}),
    ({'server_optimizer': 'fedadagrad'}, {'server_tau': 1e-3}),
    ({'server_optimizer': 'fedavgm'}, {'server_momentum': 0.0}),
    ({'finetune_epochs': 2.0}, {'finetune_epochs': 2.0, 'personal_lr': 0.05})])
def test_fields_of_its_own(changes, own):
  config = config_of(**changes)
  assert build_algorithm.own_fields(config) == own
  for name in ('client_lr', 'seed', 'proximal', 'client_momentum', *own):
    build_algorithm.check_used(config, name)
  for name in {'mixing', 'regularization', 'personal_lr', 'server_tau'} - set(
      own):
    with pytest.raises(ValueError, match=f'{name} does nothing'):
      build_algorithm.check_used(config, name)


def test_fedbn_needs_batch_normalization():
  algorithm = make_algorithm(config_of(algorithm='fedbn'), MODEL)
  with pytest.raises(ValueError, match='batch normalization'):
    train(algorithm)


def test_the_layers_of_the_2nn_have_the_default_s_name():
  shapes = jax.eval_shape(lambda: models.mnist_2nn().init(
      jax.random.key(0), np.zeros((1, 28, 28, 1), np.uint8)))
  assert default.get_config().personal_params in shapes.params

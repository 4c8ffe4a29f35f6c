"""Every algorithm by its spec: what it is given, what it refuses."""

import inspect

import jax
import numpy as np
import optax
import pytest

from configs import default
from fedjax_sim import algorithms, models
from fedjax_sim.core import builders, variants
from fedjax_sim.experiment import build_algorithm, simulate, spec_fields
from fedjax_sim.experiment.check_config import validate
from fedjax_sim.simulation import sweep
from tests import toys

MODEL = toys.softmax_model()
DATA = toys.softmax_data([5, 1, 11])

# A spec of each algorithm that the toy can be trained with.
SPECS = {
    'apfl': 'apfl(alpha=0.3)', 'ditto': 'ditto(lam=0.1)', 'fedavg': 'fedavg',
    'feddyn': 'feddyn(alpha=0.1)', 'fedexp': 'fedexp', 'fednova': 'fednova',
    'fedper': 'fedper(personal="/b$")', 'fedprox': 'fedprox(mu=0.1)',
    'fedrep': 'fedrep(personal="/b$", head_epochs=1)', 'fedsgd': 'fedsgd',
    'finetune': 'finetune(fedavg, local_training(sgd(0.1), epochs=3))',
    'dpsgd': 'dpsgd(graph=ring)',
    'hierfavg': 'hierfavg(edges=2, kappa2=2, assign="contiguous")',
    'ifca': 'ifca(clusters=2)', 'mime': 'mime', 'mimelite': 'mimelite',
    'per_fedavg': 'per_fedavg(personal_lr=0.05)',
    'pfedme': 'pfedme(lam=15, personal_lr=0.05)',
    'q_fedavg': 'q_fedavg(q=1.0)', 'scaffold': 'scaffold'}
# They take a function, one client, a model with batch normalization, edges, a
# graph, or reports that come asynchronously.
ELSEWHERE = {'agnostic_fedavg', 'centralized_sgd', 'dpsgd', 'fedasync', 'fedbn',
             'fedbuff', 'from_client_update', 'hierfavg'}


def config_of(**changes):
  config = default.get_config()
  config.batch_size, config.local_epochs = 4, 2
  config.update(changes)
  if config.algorithm == 'fedsgd':
    config.batch_size, config.local_epochs = 10, 1
  return config


def make(config, numbers=None):
  validate(config)
  return build_algorithm.make_algorithm(
      config, MODEL, num_clients=3, numbers=numbers)


def train(algorithm, rounds=2):
  return simulate.simulate(
      MODEL, algorithm, DATA, rounds=rounds, client_fraction=1.0, lanes=1,
      devices=1)


@pytest.mark.parametrize('field', ['client_optimizer', 'server_optimizer'])
@pytest.mark.parametrize('spec, message', [
    ('sgd(momentum=5)', r'must have momentum in \[0, 1\), got 5'),
    ('adam(b1=1.5)', r'must have b1 in \[0, 1\), got 1.5'),
    ('clip_by_global_norm(-1.0) | sgd', 'must have max_norm positive, got -1'),
    ('scale_by_rprop', 'must descend, but on a quadratic it climbs'),
    ('lbfgs', "needs 'value', 'grad', and 'value_fn' as well")])
def test_optimizers_that_can_not_train_are_refused(field, spec, message):
  with pytest.raises(ValueError, match=f'{field}.*{message}'):
    make(config_of(**{field: spec}))


def test_every_algorithm_has_a_spec_here():
  named = spec_fields.spaces()['algorithm'].builders
  assert named.keys() == SPECS.keys() | ELSEWHERE


WORK = {'epochs': 2, 'batch_size': 4, 'weighting': 'examples'}


@pytest.fixture(scope='module', name='plain')
def plain_fixture():
  """The weights that FedAvg finds."""
  return train(algorithms.fedavg(
      MODEL, optax.sgd(0.1), **WORK)).variables.params['w']


@pytest.mark.parametrize('changes, algorithm', [
    ({'algorithm': 'scaffold(option=1)'},
     lambda: algorithms.scaffold(MODEL, 0.1, option=1, **WORK)),
    ({'algorithm': 'feddyn(alpha=0.3)', 'local_epochs': 1.5},
     lambda: algorithms.feddyn(MODEL, optax.sgd(0.1), alpha=0.3,
                               **WORK | {'epochs': 1.5})),
    ({'algorithm': 'fednova(momentum=0.5, proximal=0.2)', 'local_steps': 3,
      'local_epochs': 1},
     lambda: algorithms.fednova(MODEL, 0.1, momentum=0.5, proximal=0.2,
                                **WORK | {'steps': 3, 'epochs': 1})),
    ({'algorithm': 'fedprox(mu=0.2)', 'server_optimizer': 'fedadam(tau=0.1)',
      'server_lr': 0.01, 'client_lr_decay': 0.5},
     lambda: algorithms.fedprox(
         MODEL, optax.sgd(0.1), algorithms.fedadam(0.01, tau=0.1), mu=0.2,
         client_schedule=lambda r: 0.5 ** r, **WORK)),
    ({'client_optimizer':
          'clip_by_global_norm(0.1) | add_decayed_weights(0.5) | adam(b1=0.5)',
      'server_lr_decay': 0.5},
     lambda: algorithms.fedavg(
         MODEL, optax.chain(optax.clip_by_global_norm(0.1),
                            optax.add_decayed_weights(0.5),
                            optax.adam(0.1, b1=0.5)),
         optax.sgd(lambda count: 0.5 ** count), **WORK))])
def test_fields_and_arguments_reach_the_algorithm(changes, algorithm, plain):
  got = train(make(config_of(**changes))).variables.params['w']
  want = train(algorithm()).variables.params['w']
  np.testing.assert_allclose(got, want, rtol=1e-6)
  assert np.abs(got - plain).max() > 1e-4


def test_finetuning_is_for_evaluation():
  algorithm = make(config_of(algorithm=SPECS['finetune']))
  state = train(algorithm).state
  (own, *_) = toys.personal_models(algorithm, state, DATA)
  assert np.abs(own.params['w'] - state.server.variables.params['w']
                ).max() > 1e-3


@pytest.mark.parametrize('changes, message', [
    ({'algorithm': 'fedavg(stragglers=1.5)'}, 'stragglers'),
    ({'algorithm': 'apfl(alpha=-0.1)'}, 'alpha'),
    ({'algorithm': 'fedprox(mu=-1.0)'}, 'mu|proximal'),
    ({'algorithm': 'ifca(clusters=0)'}, 'clusters'),
    ({'algorithm': 'ditto(lam=-1)'}, 'lam'),
    ({'algorithm': 'q_fedavg(q=-1)'}, '^algorithm=q_fedavg|q must'),
    ({'algorithm': 'pfedme(lam=0, personal_lr=0.1)'}, 'lam'),
    ({'algorithm': 'per_fedavg(personal_lr=0)'}, 'personal_lr'),
    ({'algorithm': 'fedrep(personal="/b$", head_epochs=0)'}, 'epochs'),
    ({'algorithm': 'fedper(personal="(")'}, 'regular expression'),
    ({'algorithm': 'scaffold(option=3)'}, 'option'),
    ({'algorithm': 'scaffold(proximal=0.1)'}, 'proximal'),
    ({'algorithm': 'fednova(momentum=1.5)'}, 'momentum'),
    ({'server_optimizer': 'fedadam(tau=0)'}, 'tau'),
    ({'server_optimizer': 'fedyogi(beta2=2)'}, 'beta2')])
def test_what_a_builder_refuses(changes, message):
  with pytest.raises(ValueError, match=message):
    make(config_of(**changes))


@pytest.mark.parametrize('field, text', [
    *(('algorithm', text) for text in SPECS.values()),
    ('algorithm', 'fedavg(proximal=0.1)'),
    ('server_optimizer', 'fedadam(tau=0.1, beta1=0.5, beta2=0.5)'),
    ('server_optimizer', 'fedadagrad(tau=0.1)'),
    ('server_optimizer', 'fedyogi(tau=0.1)'),
    ('server_optimizer', 'fedavgm(momentum=0.5)'),
    ('client_optimizer', 'clip_by_global_norm(2.0) | sgd(momentum=0.5)'),
    ('uplink', 'clip(1.0)'), ('reduce', 'fixed_mean(3)')])
def test_declared_numbers_can_be_traced(field, text):
  """A round of a sweep over all of them; without one they are built, too."""
  config = config_of(**{field: text})
  make(config)
  numbers = {f'{field}.{path}': float(x) for path, x in variants.numbers(
      spec_fields.bind(field, text)).items()}
  rates = dict.fromkeys(build_algorithm.TRACED, 0.5)
  if 'server_optimizer' not in builders.taken(
      spec_fields.bind('algorithm', config.algorithm)):
    rates = {'client_lr': 0.5}
  built = sweep.build(
      MODEL, lambda **numbers: make(config, numbers), [DATA], cohort_size=3,
      num_members=1, example=numbers | rates, devices=1, lanes=1)
  assert built.program.traced is not None


@pytest.mark.parametrize('name', ['sgd', 'adam', 'yogi', 'rmsprop', 'adamw'])
def test_numbers_of_optax_can_be_traced(name):
  allowed = set(spec_fields._OPTAX_TRACEABLE) - {'learning_rate'}
  numbers = {key: 0.5 for key in allowed & set(
      inspect.signature(getattr(optax, name)).parameters)}

  @jax.jit
  def step(numbers):
    optimizer = getattr(optax, name)(0.1, **numbers)
    weights = np.ones(2, np.float32)
    return optimizer.update(weights, optimizer.init(weights), weights)[0]

  assert np.isfinite(step(numbers)).all() and numbers


def test_fedbn_needs_batch_normalization():
  algorithm = make(config_of(algorithm='fedbn'))
  with pytest.raises(ValueError, match='batch normalization'):
    train(algorithm)


def test_the_layers_of_the_2nn_have_the_name_that_is_documented():
  shapes = jax.eval_shape(lambda: models.mnist_2nn().init(
      jax.random.key(0), np.zeros((1, 28, 28, 1), np.uint8)))
  assert 'dense_2' in shapes.params


@pytest.mark.parametrize('field, spec', [
    ('uplink', 'on("nothing*", top_k(0.1))'),
    ('uplink', 'clip(1.0) | error_feedback(top_k(k=1000))'),
    ('downlink', 'on("nothing*", top_k(0.1))'),
    ('aggregate', 'aggregator(on("nothing*", quantize(4)), reduce=median)'),
    ('reduce', 'buffered(on("nothing*", clip(1.0)), median)')])
def test_what_a_part_finds_out_in_a_round_names_its_field(field, spec):
  algorithm = make(config_of(**{field: spec}))
  bound = builders.text_of(spec_fields.bind(field, spec))
  with pytest.raises(ValueError) as error:
    train(algorithm)
  assert str(error.value).startswith(f'{field}={bound}: ')


@pytest.mark.parametrize('spec', [
    'error_feedback(top_k(0.1)) | clip(1.0)',
    'clip(1.0) | error_feedback(quantize(2) | rotate)'])
def test_an_order_that_makes_no_sense_names_its_field(spec):
  with pytest.raises(ValueError, match='^uplink=.*: a chain must have'):
    make(config_of(uplink=spec))

"""Functions that users call say which argument is wrong, at the start."""

import inspect

import jax
import numpy as np
import optax
import pytest

import fedjax_sim as fs
from fedjax_sim.simulation.rounds import SimulationState
from tests import toys

MODEL = toys.softmax_model()
DATA = toys.softmax_data([5, 7, 6])
ALGORITHM = fs.algorithms.fedavg(MODEL, optax.sgd(0.1))
JUNK = ['abc', None, True, -1, 1.5, 10 ** 30, float('nan'), [1], {'a': 1}, len,
        int, object(), np.zeros(3), b'x', optax.sgd, fs.algorithms.fedavg]

SIMULATE = {'model': MODEL, 'algorithm': ALGORITHM, 'train': DATA, 'rounds': 1,
            'clients_per_round': 2, 'devices': 1, 'lanes': 2}
STEPS = {'client_init': lambda a, b: b, 'client_step': lambda s, b: s}


def evaluate_clients(**options):
  state = SimulationState((), (), (), ())
  return fs.evaluation.evaluate_clients(**{
      'model': MODEL, 'algorithm': ALGORITHM, 'state': state, 'train': DATA,
      'test': DATA, 'key': jax.random.key(0)} | options)


CALLS = {  # Function -> (arguments that are right, argument -> what is right)
    fs.simulate: (SIMULATE, {
        'model': (), 'algorithm': (), 'train': (), 'rounds': (),
        'clients_per_round': (), 'client_fraction': (None,),
        'eval_every': (), 'seed': (10 ** 30,), 'devices': (),
        'lanes': (10 ** 30,),
        'examples': (), 'client_state': (), 'precision': ()}),
    fs.sweep: ({
        'model': MODEL, 'train': DATA, 'rounds': 1, 'seeds': [0],
        'make_algorithm': lambda rate: ALGORITHM, 'learning_rates': [0.1],
        'clients_per_round': 2, 'devices': 1, 'lanes': 2}, {
            'model': (), 'train': (), 'rounds': (), 'eval_every': ()}),
    fs.for_each_client: (STEPS, {
        'client_init': (len, int, optax.sgd, fs.algorithms.fedavg),
        'lanes': ()}),
    evaluate_clients: ({}, {
        'model': (), 'algorithm': (), 'state': (), 'train': (), 'test': (),
        'lanes': (), 'batch_size': ()}),
    fs.algorithms.fedavg: ({
        'model': MODEL, 'client_optimizer': optax.sgd(0.1)}, {
            'model': (), 'client_optimizer': (), 'server_optimizer': (None,),
            'aggregator': (None,), 'epochs': (1.5,), 'steps': (None,),
            'batch_size': (None,), 'weighting': (), 'micro_batch_size': (),
            'restrict': (None,)}),
    fs.algorithms.scaffold: ({'model': MODEL, 'client_lr': 0.1}, {
        'model': (), 'client_lr': (1.5,)}),
    fs.aggregation.clip: ({}, {'norm': (1.5, 10 ** 30)}),
    fs.aggregation.fixed_mean: ({}, {'n': (1.5, 10 ** 30)}),
    fs.data.partition.iid: ({
        'labels_or_num_examples': 60, 'num_clients': 6, 'seed': 0}, {
            'num_clients': ()}),
    fs.data.partition.shards: ({
        'labels': np.arange(60) % 3, 'num_clients': 6, 'shards_per_client': 2,
        'seed': 0}, {'num_clients': (), 'shards_per_client': ()}),
    fs.data.sampling.uniform: ({
        'num_clients': 6, 'clients_per_round': 2, 'seed': 0}, {
            'num_clients': (10 ** 30,), 'clients_per_round': ()}),
    fs.models.from_functions: ({
        'init': lambda key, x: {}, 'apply': lambda params, x: x}, {
            'init': (len, int, optax.sgd, fs.algorithms.fedavg)}),
}


@pytest.mark.parametrize('function', CALLS, ids=lambda f: f.__name__)
def test_a_wrong_argument_is_named(function):
  right, arguments = CALLS[function]
  for name, fine in arguments.items():
    for value in JUNK:
      if any(value is one for one in fine) or (
          isinstance(value, int | float) and value in [
              x for x in fine if isinstance(x, int | float)]):
        continue
      with pytest.raises(ValueError, match=name):
        function(**right | {name: value})


def test_what_was_not_called_is_told():
  with pytest.raises(ValueError, match=r'algorithm.*fedavg'):
    fs.simulate(**SIMULATE | {'algorithm': fs.algorithms.fedavg})
  with pytest.raises(ValueError, match=r'client_optimizer.*sgd'):
    fs.algorithms.fedavg(MODEL, optax.sgd)
  with pytest.raises(ValueError, match='model must be a Model.*got the func'):
    fs.algorithms.fedavg(toys.softmax_model, optax.sgd(0.1))
  with pytest.raises(ValueError, match="needs 'value', 'grad'"):
    fs.algorithms.fedavg(MODEL, optax.lbfgs(0.1))


def test_a_wrong_keyword_is_pythons_own_error():
  with pytest.raises(TypeError, match='client_rate'):
    fs.algorithms.fedavg(MODEL, optax.sgd(0.1), client_rate=1)


@pytest.mark.parametrize('folder', [
    fs.algorithms, fs.aggregation, fs.systems, fs.topologies, fs.restrictions])
def test_docstrings_name_arguments_and_that_they_are_checked(folder):
  lacking = {}
  for name in folder.__all__:
    builder = getattr(folder, name)
    if not inspect.isfunction(builder):
      continue
    text = inspect.getdoc(builder)
    code = inspect.getsource(builder).split('"""', 2)[-1]
    lines = [line.strip().lstrip('*') for line in text.splitlines()]
    wanted = [f'{parameter}:' for parameter
              in inspect.signature(builder).parameters]
    if any(word in code for word in ('raise ', 'check', 'local_training(')):
      wanted.append('Raises:')
    lacks = [word for word in wanted
             if not any(line.startswith(word) for line in lines)]
    if lacks:
      lacking[name] = lacks
  assert not lacking

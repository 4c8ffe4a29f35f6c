"""Numbers that no algorithm can use, for all that have such numbers."""

import optax
import pytest

from fedjax_sim import aggregation, algorithms
from fedjax_sim.clients.local_training import local_training
from tests import toys

MODEL = toys.softmax_model()
SGD = optax.sgd(0.1)
TOO_SMALL = (0, -1.0, True, float('nan'), float('inf'), 1e-50, 1e-40, '0.1')
NEGATIVE = (-1.0, True, float('nan'), float('inf'), '0.1')
NO_DECAY = (1, 1.0, 1.5, -0.1, True, float('nan'), '0.9')
NO_FRACTION = (1.5, -0.1, True, float('nan'))
NO_FUNCTION = (0.9, 'decay')
NO_BOOL = (1, 0.0, 'yes')


def case(build, name, values, **given):
  return [pytest.param(build, name, value, given, id=f'{name}={value!r}')
          for value in values]


CASES = [
    *case(lambda **x: algorithms.fedavgm(0.1, **x), 'momentum', NO_DECAY),
    *case(algorithms.fedavgm, 'learning_rate', TOO_SMALL),
    *case(algorithms.fedadagrad, 'learning_rate', TOO_SMALL),
    *case(lambda **x: algorithms.fedadagrad(0.1, **x), 'tau', TOO_SMALL),
    *(c for build in (algorithms.fedadam, algorithms.fedyogi)
      for name in ('beta1', 'beta2')
      for c in case(lambda build=build, **x: build(0.1, **x), name, NO_DECAY)),
    *(c for name in ('scaffold', 'fednova') for c in case(
        lambda name=name, **x: getattr(algorithms, name)(MODEL, **x),
        'client_lr', TOO_SMALL)),
    *case(lambda **x: algorithms.fednova(MODEL, 0.1, **x), 'momentum',
          NO_DECAY),
    *case(lambda **x: algorithms.scaffold(MODEL, 0.1, **x), 'option',
          (0, 3, True)),
    *case(lambda **x: algorithms.q_fedavg(MODEL, 0.1, **x), 'q', NEGATIVE),
    *(c for name, argument, values in (
        ('fedprox', 'mu', NEGATIVE), ('feddyn', 'alpha', TOO_SMALL),
        ('ditto', 'lam', NEGATIVE), ('fedexp', 'epsilon', TOO_SMALL),
        ('fedexp', 'average_last', NO_BOOL), ('apfl', 'adaptive', NO_BOOL),
        ('apfl', 'alpha', NO_FRACTION),
        ('per_fedavg', 'personal_lr', TOO_SMALL),
        ('ifca', 'clusters', (0, True, 2.0)),
        ('fedavg', 'client_schedule', NO_FUNCTION),
        ('fedavg', 'stragglers', NO_FRACTION), ('fedavg', 'proximal', NEGATIVE),
        ('fedavg', 'epochs', TOO_SMALL), ('fedavg', 'steps', (0, True, 1.0)),
        ('fedavg', 'batch_size', (0, True, 1.0)))
      for c in case(lambda name=name, **x: getattr(algorithms, name)(
          MODEL, SGD, **x), argument, values)),
    *case(lambda **x: algorithms.pfedme(MODEL, SGD, **x), 'lam', TOO_SMALL,
          personal_lr=0.1),
    *case(lambda **x: algorithms.pfedme(MODEL, SGD, **x), 'personal_lr',
          TOO_SMALL, lam=0.1),
    *case(lambda **x: algorithms.agnostic_fedavg(MODEL, SGD, **x), 'domain_lr',
          NEGATIVE, num_domains=2),
    *case(lambda **x: algorithms.fedrep(MODEL, SGD, **x), 'head_epochs',
          TOO_SMALL, personal='b'),
    *case(lambda **x: local_training(MODEL, SGD, **x), 'micro_batch_size',
          (0, True, 1.0)),
    *case(aggregation.clip, 'norm', TOO_SMALL),
    *case(aggregation.fixed_mean, 'n', TOO_SMALL),
]


@pytest.mark.parametrize('build, name, value, given', CASES)
def test_a_number_out_of_range_is_named(build, name, value, given):
  with pytest.raises(ValueError, match=rf'\b{name} must'):
    build(**given | {name: value})


@pytest.mark.parametrize('name', ['fedavg', 'fedexp', 'fedsgd', 'fedper'])
def test_an_aggregator_is_no_part_of_one(name):
  more = {'personal': 'b'} if name == 'fedper' else {}
  with pytest.raises(ValueError, match='aggregator must be a whole aggregator'):
    getattr(algorithms, name)(
        MODEL, SGD, aggregator=aggregation.clip(1.0), **more)


@pytest.mark.parametrize('build', [
    lambda schedule: algorithms.fedavg(MODEL, SGD, client_schedule=schedule),
    lambda schedule: algorithms.fedsgd(MODEL, 0.1, client_schedule=schedule),
    lambda schedule: algorithms.centralized_sgd(
        MODEL, SGD, client_schedule=schedule)])
def test_a_schedule_of_rounds_may_fall_to_zero_but_not_below(build):
  build(optax.linear_schedule(1.0, 0.0, 10))
  with pytest.raises(ValueError, match=(
      'client_schedule must give factors that are not negative, but gives -1 '
      'in round 10, from 0')):
    build(optax.linear_schedule(1.0, -1.0, 10))

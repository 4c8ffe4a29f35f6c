"""What a build refuses names the config's field, and that field's value."""

import re

import numpy as np
import optax
import pytest

from configs import digits_quickstart
from fedjax_sim import aggregation, algorithms
from fedjax_sim.data import sampling
from fedjax_sim.experiment import build_run
from fedjax_sim.simulation import build as build_lib
from tests import toys

CASES = [  # (fields, which one is blamed, what is said)
    ({'uplink': 'ef21(top_k(0.1))', 'reduce': 'median'}, 'reduce',
     "reduce must be a mean, .* beside 'ef21', .* got median"),
    ({'uplink': 'top_k(0.1)', 'reduce': 'median'}, 'reduce',
     "must not be median.* beside 'top_k'"),
    ({'uplink': 'clip(1.0) | error_feedback(qsgd(1))'}, 'uplink',
     "'qsgd' does so for .* levels="),
    ({'uplink': 'error_feedback(random_k(0.01))'}, 'uplink', 'unbiased=False'),
    ({'uplink': "on('nosuch*', quantize(4))"}, 'uplink', 'must fit one of'),
    ({'uplink': 'clip(1.0) | quantize(99)'}, 'uplink', 'bits must be'),
    ({'restrict': 'federated_dropout(0.5)', 'downlink': 'top_k(0.1)'},
     'downlink', "restrict gives .* got 'top_k'"),
    ({'restrict': 'low_rank(4)', 'uplink': 'quantize(4)'}, 'uplink',
     r'must not encode .* restrict=low_rank\(4\)'),
    ({'restrict': 'federated_dropout(0.5)', 'reduce': 'median'}, 'reduce',
     r'restrict=federated_dropout\(0.5\), got median'),
    ({'restrict': 'federated_dropout(0.5)', 'model': 'logistic_regression'},
     'restrict', 'a model that says which its hidden units are'),
    ({'restrict': 'low_rank(400)'}, 'restrict', 'rank must be at most 64'),
    ({'systems': 'phones', 'reporting': 'window(1e-6)'}, 'reporting',
     'deadline must let enough'),
    ({'systems': 'phones', 'reporting': 'window(over_selection=30)'},
     'reporting', 'over_selection must be at most'),
    ({'systems': 'phones', 'reporting': "window(late='dropp')"},
     'reporting', r"Did you mean 'drop'\?$"),
    ({'systems': 'phones', 'algorithm': 'fedsgd',
      'reporting': "window(9.0, late='partial')"}, 'reporting',
     "late='partial' needs"),
    ({'systems': 'phones(failures=failures(training=1.5))'}, 'systems',
     r'failures\(training=1.5\): training must lie'),
]


@pytest.mark.parametrize('fields, blamed, message', CASES)
def test_the_field_and_its_value_come_first(fields, blamed, message):
  config = digits_quickstart.get_config()
  if fields.get('algorithm') == 'fedsgd':
    fields = fields | {'full_batch': True, 'local_epochs': 1}
  config.update({'model': 'mnist_2nn'} | fields)
  with pytest.raises(ValueError, match=message) as told:
    build_run.build(config, build_run.Shape(1, 5))
  # The canonical text of a spec has keywords.
  said, value = (re.sub(r'(?<=[( ])\w+=', '', text)
                 for text in (str(told.value), fields[blamed]))
  assert said.startswith(f'config.{blamed}={value}: '), told.value


def test_in_python_what_a_part_finds_out_comes_without_frames_of_jax():
  model = toys.quadratic_model()
  algorithm = algorithms.fedavg(
      model, optax.sgd(0.1), batch_size=2, aggregator=aggregation.aggregator(
          aggregation.on('nosuch*', aggregation.quantize(4))))
  data = toys.points_data([np.ones((1, 2))] * 3)
  with pytest.raises(ValueError, match='must fit one of') as told:
    build_lib.build(model, algorithm, data, sampling.uniform(3, 2, seed=0))
  names = [entry.frame.f_globals['__name__'] for entry in told.traceback]
  assert not [name for name in names if name.startswith('jax')]
  assert told.value.__cause__ is None and not hasattr(told.value, '__notes__')

"""A data set that a builder of anybody's returns."""

import numpy as np
import pytest

from configs import digits_quickstart
from fedjax_sim.data.sets.dataset import Dataset, checked
from fedjax_sim.experiment import build_run

X, Y = np.ones((20, 64)), np.arange(20) % 10


def without_a_test_set(data_dir=None):
  return checked(
      Dataset('mine', {'x': X.tolist(), 'y': Y.tolist()}, None, 10))


def test_lists_become_arrays_that_devices_take():
  got = checked(Dataset('mine', (X.tolist(), list(Y)), {'x': X, 'y': Y}, 10))
  for part in (got.train, got.test):
    assert part['x'].dtype == np.float32 and part['y'].dtype == np.int32
    np.testing.assert_array_equal(part['y'], Y)


@pytest.mark.parametrize('train, test, message', [
    ({'x': X, 'y': Y}, {'x': X[:0], 'y': Y[:0]}, 'test must have at least one'),
    ({'x': X[:0], 'y': Y[:0]}, None, 'train must have at least one'),
    ({'x': X}, None, 'train must be a dict with x and y'),
    (X, None, 'train must be a dict with x and y, got ndarray'),
    (None, None, 'train must be a dict'),
    ({'x': X, 'y': Y[:3]}, None, '.* got 20 and 3'),
    ({'x': X * np.nan, 'y': Y}, None, r"train\['x'\].*example 0 holds nan"),
    ({'x': X, 'y': Y}, {'x': X, 'y': ['a'] * 20}, r"test\['y'\] must hold nu"),
])
def test_parts_that_are_none(train, test, message):
  with pytest.raises(ValueError, match=f'dataset mine: {message}'):
    checked(Dataset('mine', train, test, 10))


def test_no_test_examples_is_no_evaluation():
  config = digits_quickstart.get_config()
  config.dataset = f'{__name__}.without_a_test_set'
  config.partition, config.num_clients = 'iid', 4
  experiment = build_run.build(config, build_run.Shape(1, 2))
  assert not experiment.simulation.eval_data
  config.test_examples = 5
  with pytest.raises(ValueError, match='test_examples must be 0'):
    build_run.build(config, build_run.Shape(1, 2))


def test_clients_that_have_nothing_to_be_tested_on():
  config = digits_quickstart.get_config()
  config.partition, config.num_clients = 'iid', 20
  config.client_test_fraction = 0.2
  with pytest.raises(ValueError, match='client_test_fraction must be 0 here'):
    build_run.deal(config, without_a_test_set())

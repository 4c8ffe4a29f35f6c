"""What holds for every way to deal examples."""

import math

import numpy as np
import pytest

from fedjax_sim.data import partition as partition_lib
from fedjax_sim.experiment import spec_fields
from tests.data.partition.cases import LABELS, MAKERS, assert_uses_all_once


def test_every_way_that_a_config_may_name_is_here():
  ways = spec_fields.spaces()['partition'].builders
  assert set(ways) == {*MAKERS, 'natural'}


@pytest.mark.parametrize('make', MAKERS.values(), ids=MAKERS)
def test_every_example_once_and_nobody_empty(make):
  for seed in range(10):
    partition = make(seed)
    assert_uses_all_once(partition, 600)
    assert min(map(len, partition)) >= 1


@pytest.mark.parametrize('make', MAKERS.values(), ids=MAKERS)
def test_a_function_of_the_seed(make):
  once, again, other = make(3), make(3), make(4)
  assert all(map(np.array_equal, once, again))
  assert [c.tolist() for c in once] != [c.tolist() for c in other]


def test_purposes_do_not_share_a_stream():
  order = partition_lib.iid(50, 1, seed=0)[0]
  train, test = partition_lib.split([np.arange(50)], 0.2, seed=0)
  assert not np.array_equal(order, np.r_[train[0], test[0]])


@pytest.mark.parametrize('call, message', [
    (lambda p: p.iid(10, 0, seed=0), 'num_clients .* 1, got 0'),
    (lambda p: p.iid(10, 11, seed=0), 'num_clients=11 .* there are 10'),
    (lambda p: p.iid(0, 1, seed=0), 'num_examples .* got 0'),
    (lambda p: p.iid(10, 2, seed=-1), 'seed .* got -1'),
    (lambda p: p.iid(np.zeros((3, 2), int), 2, seed=0), 'labels must be a 1-D'),
    (lambda p: p.iid(10, 2.0, seed=0), 'num_clients .* got 2.0'),
    (lambda p: p.shards(LABELS, 10, 0, seed=0), 'shards_per_client .* got 0'),
    (lambda p: p.shards(LABELS, 0, 2, seed=0), 'num_clients .* got 0'),
    (lambda p: p.shards([0.5, 1.0], 1, 1, seed=0), r'labels .* float64 \[2\]'),
    (lambda p: p.dirichlet(LABELS, 10, 0, seed=0), 'alpha must be positive'),
    (lambda p: p.dirichlet(LABELS, 10, math.inf, seed=0), 'alpha .* got inf'),
    (lambda p: p.dirichlet([], 10, 1, seed=0), 'labels .* not empty'),
    (lambda p: p.dirichlet(LABELS, 10, 1, seed=0, min_size=-1), 'min_size'),
    (lambda p: p.dirichlet(LABELS, 10, 1, seed=0, max_tries=0), 'max_tries'),
    (lambda p: p.dirichlet(LABELS, 10, 1, seed=0, min_size=61),
     'num_clients=10 with at least 61 each need 610 examples; there are 600'),
    (lambda p: p.client_dirichlet(LABELS, 10, 0, seed=0), 'alpha must be pos'),
    (lambda p: p.client_dirichlet(LABELS, 601, 1, seed=0), 'num_clients=601'),
    (lambda p: p.label_sets(LABELS, 10, 6, seed=0),
     'labels_per_client must be at most 5, .* got 6'),
    (lambda p: p.label_sets(LABELS, 2, 2, seed=0), r'2 \* 2 must be at lea'),
    (lambda p: p.label_sets([0, 0, 0, 1], 3, 2, seed=0),
     'label 1 to 3 clients, but there are only 1'),
    (lambda p: p.quantity(10, 3, seed=0, sigma=-1.0), 'sigma .* got -1.0'),
    (lambda p: p.quantity(10, 3, seed=0, sigma=math.nan), 'sigma .* got nan'),
    (lambda p: p.quantity(10, 3, seed=0, sigma=1, min_size=4), 'need 12 exam'),
    (lambda p: p.natural([1.0]), 'client_ids must be a 1-D array'),
    (lambda p: p.natural([None, 'a']), 'client_ids .*example 0 has none'),
    (lambda p: p.split([np.arange(3)], 1.0, seed=0), r'\[0, 1\), got 1.0'),
    (lambda p: p.split([np.arange(3)], -0.1, seed=0), 'test_fraction .*-0.1'),
    (lambda p: p.summary([]), 'num_clients'),
    (lambda p: p.summary([np.array([4])], [0, 1]), r'index 4, .* \[0, 2\)'),
])
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call(partition_lib)


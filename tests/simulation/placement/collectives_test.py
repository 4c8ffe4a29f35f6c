"""What devices tell each other: the numbers, and in how many messages."""

import re

import numpy as np
import optax
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation, algorithms
from fedjax_sim.aggregation.transform import transform
from fedjax_sim.core import precision, trees
from fedjax_sim.data import sampling
from fedjax_sim.simulation import build as build_lib
from fedjax_sim.simulation.drive import drive
from fedjax_sim.simulation.placement import collectives, sharding
from tests import toys

SOFTMAX = toys.softmax_model()


def over_devices(function, count=3):
  placement = sharding.place(count)
  return sharding.spread(
      function, placement, (placement.split(),), placement.everywhere)


@pytest.mark.parametrize('dtype', [np.int32, np.uint32, np.int8])
@pytest.mark.parametrize('few', [0, 2 ** 14])
def test_integers_add_up_exactly_and_wrap_around(monkeypatch, dtype, few):
  monkeypatch.setattr(collectives, '_FEW', few)
  kind = np.iinfo(dtype)
  rows = np.random.default_rng(0).integers(
      kind.min, kind.max, (3, 50), dtype, endpoint=True)
  rows[:, :4] = [[kind.min, kind.max, 1, 0], [kind.min, kind.max, 2, 1],
                 [kind.max] * 4]
  got = over_devices(collectives.total)(rows)[0]
  assert got.dtype == dtype
  np.testing.assert_array_equal(got, rows.sum(0, dtype=dtype))


def test_bools_are_counted_and_all_is_one_message():
  tree = {'a': np.arange(6, dtype=np.float32),
          'b': np.array([True, False, True]), 'c': np.arange(3)}
  run = over_devices(collectives.total)
  got = run(tree)
  np.testing.assert_array_equal(got['a'], [0 + 2 + 4, 1 + 3 + 5])
  assert got['b'] == 2 and got['b'].dtype == jnp.int32 and got['c'] == 3
  assert collectives_in(run.lower(tree).compile()) == ['all-reduce']


def test_a_row_for_each_device():
  x = np.array([True, False, True, True, False, False])
  got = over_devices(
      lambda x: collectives.total(collectives.by_device(x)))(x)
  np.testing.assert_array_equal(got, x.reshape(3, 2))


def test_other_merges_are_made_in_order():
  x = np.arange(6.0, dtype=np.float32)
  over = lambda merge: over_devices(lambda x: collectives.merge(x, merge))
  np.testing.assert_array_equal(over(trees.add)(x), [0 + 2 + 4, 1 + 3 + 5])
  np.testing.assert_array_equal(
      over(lambda a, b: 10 * a + b)(x), [24, 135])


def collectives_in(compiled):
  return re.findall(
      r' (all-\w+|reduce-scatter|collective-\w+)(?:-start)?\(',
      compiled.as_text())


def compiled(algorithm, test=None):
  return build_lib.build(
      SOFTMAX, algorithm, toys.softmax_data([10] * 8),
      sampling.uniform(8, 7, 0), devices=4, lanes=2,
      test=test).trace().lower().compile()


@pytest.mark.parametrize('algorithm, messages', [
    (algorithms.fedavg(SOFTMAX, optax.sgd(0.1)), 1),
    (algorithms.fedsgd(SOFTMAX, 0.1), 1),
    (algorithms.scaffold(SOFTMAX, 0.1), 1),
    (algorithms.mime(SOFTMAX, optax.sgd(0.1)), 2),
], ids=['fedavg', 'fedsgd', 'scaffold', 'mime'])
def test_an_exchange_is_one_sum_over_devices(algorithm, messages):
  assert collectives_in(compiled(algorithm)) == ['all-reduce'] * messages


def test_only_rounds_that_evaluate_add_up_evaluations():
  text = compiled(
      algorithms.fedavg(SOFTMAX, optax.sgd(0.1)),
      toys.softmax_data([20]).examples).as_text()
  holders = [part for part in re.split(r'\n(?=\S)', text)
             if ' all-reduce(' in part]
  names = [re.match(r'%?(\S+)', part)[1] for part in holders]
  assert len(names) == 2
  branches = re.findall(r'branch_computations=\{(.*?)\}', text) + re.findall(
      r'(?:true|false)_computation=(\S+?),', text)
  assert sum(name in ' '.join(branches) for name in names) == 1


def test_the_whole_cohort_is_known_on_every_device():
  def client(message, state, memory, keys, cohort):
    weights = jnp.where(cohort.present, 1 + cohort.client, 0)
    seen = jnp.sum(weights * (1 + jnp.arange(len(weights))))
    return message._replace(sums={'seen': seen}), memory

  def server(aggregate, state, key, cohort):
    return aggregate, state, {'seen': precision.floats(aggregate.sums['seen'])}

  cohorts = [[3, 1, 7], [0, 2, 5, 6, 4]]
  simulation = build_lib.build(
      SOFTMAX, algorithms.fedavg(
          SOFTMAX, optax.sgd(0.1), aggregator=aggregation.aggregator(
              transform('looking', client=client, server=server))),
      toys.softmax_data([10] * 8),
      sampling.Sampler(lambda r: np.array(cohorts[r]), 5, 8),
      devices=4, lanes=1)
  records = [record for progress in drive(simulation, simulation.init(), 2)
             for record in progress.records[0]]
  for cohort, record in zip(cohorts, records, strict=True):
    seen = sum((1 + k) * (1 + i) for i, k in enumerate(cohort))
    assert record['looking/seen'] == len(cohort) * seen

"""Two cells in other ways: what the ways are, and their tables."""

import json

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from benchmarks.paper import causes, report, way_parts, ways
from fedjax_sim import data, models
from fedjax_sim.clients.local_sgd import Broadcast
from fedjax_sim.core.types import ClientData

LABELS = np.repeat(np.arange(10), 60)


@pytest.fixture(name='examples', scope='module')
def examples_fixture():
  return jax.tree.map(lambda x: x[:100], data.load('digits').train)


def client(algorithm, variables, examples, size=60):
  """The update of a client that holds rows 40 to 99, in round 3."""
  own = ClientData(examples, jnp.int32(40), jnp.int32(size), 60, ragged=False)
  return jax.jit(lambda: algorithm.client(
      Broadcast(jnp.int32(3), variables), (), own, jax.random.key(5)
  ))().message.update.params


def one_after_the_other(model, variables, examples, starts, rate=0.1):
  """SGD by hand over batches of ten."""
  params = variables.params
  for start in starts:
    batch = jax.tree.map(lambda x, s=start: x[s:s + 10], examples)

    def loss(params, batch=batch):
      outputs, _ = model.run(
          variables._replace(params=params), batch['x'], train=False)
      return -jnp.mean(jax.nn.log_softmax(outputs)[
          jnp.arange(10), batch['y']])

    params = jax.tree.map(
        lambda w, g: w - rate * g, params, jax.grad(loss)(params))
  return jax.tree.map(lambda a, b: a - b, params, variables.params)


def assert_near(got, want):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=1e-6), got, want)


def test_fixed_batches_are_those_of_the_stored_order(examples):
  model = models.logistic_regression()
  variables = model.init(jax.random.key(0), examples['x'][:1])
  want = one_after_the_other(model, variables, examples, range(40, 100, 10))
  got = client(way_parts.ordered()(model, 0.1), variables, examples)
  assert_near(got, want)
  mixed = client(way_parts.ordered(True)(model, 0.1), variables, examples)
  order = jax.random.permutation(jax.random.key(5), jnp.arange(6))
  want = one_after_the_other(
      model, variables, examples, [40 + 10 * int(i) for i in order])
  assert_near(mixed, want)


def test_what_is_sent_has_few_bits(examples):
  model = models.logistic_regression()
  variables = model.init(jax.random.key(0), examples['x'][:1])
  variables = jax.tree.map(lambda x: x + 0.1, variables)
  update = client(
      way_parts.sent_as(jnp.bfloat16)(model, 0.1), variables, examples)
  exact = client(way_parts.plain(model, 0.1), variables, examples)
  arrived = jax.tree.leaves(jax.tree.map(
      lambda a, b: a + b, variables.params, update))
  for new, few in zip(arrived, jax.tree.leaves(exact), strict=True):
    # Up to float32's rounding of the difference.
    np.testing.assert_allclose(
        new, new.astype(jnp.bfloat16).astype(jnp.float32), rtol=1e-6)
    assert np.abs(few).max() > 0
  assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(
      jax.tree.leaves(update), jax.tree.leaves(exact), strict=True))


def test_a_falling_rate_is_the_factor_to_the_round(examples):
  model = models.logistic_regression()
  variables = model.init(jax.random.key(0), examples['x'][:1])
  got = client(way_parts.decayed(0.5)(model, 0.8), variables, examples)
  assert_near(got, client(way_parts.plain(model, 0.1), variables, examples))


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_dealings_use_every_example_once(seed):
  dealt = {deal: deal(LABELS, seed) for deal in (
      way_parts.shards, way_parts.two_digits, way_parts.mixed_once)}
  for parts in dealt.values():
    assert len(parts) == 100
    assert sorted(np.concatenate(parts)) == list(range(len(LABELS)))
  digits = {deal: [len(set(LABELS[part])) for part in parts]
            for deal, parts in dealt.items()}
  assert set(digits[way_parts.two_digits]) == {2}
  assert 1 in digits[way_parts.shards]
  # The same clients, with their examples in another order.
  for part, mixed in zip(dealt[way_parts.shards],
                         dealt[way_parts.mixed_once], strict=True):
    assert sorted(part) == sorted(mixed)
  assert any(list(LABELS[p]) != sorted(LABELS[p])
             and list(LABELS[p]) != sorted(LABELS[p])[::-1]
             for p in dealt[way_parts.mixed_once])


def test_cohorts():
  drawn = [way_parts.with_replacement(1).sample(r) for r in range(50)]
  assert any(len(set(cohort)) < 10 for cohort in drawn)
  assert len({tuple(cohort) for cohort in drawn}) == 50
  turn = [way_parts.in_turn(1).sample(r) for r in range(20)]
  assert sorted(np.concatenate(turn[:10])) == list(range(100))
  assert all((a == b).all() for a, b in zip(turn[:10], turn[10:], strict=True))


def test_a_rate_ends_that_can_not_be_the_best():
  way = ways.WAYS[0]._replace(
      sixths=(-6, -4), seeds=(0, 1), read=('every round', '3 in a row'))
  crosses = lambda rounds: [0.9] * rounds + [0.98] * 3
  flat = [0.9] * 20
  curves = [crosses(9), crosses(12), flat, flat]
  assert causes._beaten(way, curves) == {2, 3}
  assert causes._beaten(way, [*curves[:2], flat[:11], flat[:12]]) == {3}
  # Only one of its seeds has crossed: nothing is known yet.
  assert causes._beaten(way, [curves[0], flat, flat, flat]) == set()
  # Two looks of a reading that has not been met say nothing either.
  peaks = [0.9] * 8 + [0.98]
  assert causes._beaten(way, [peaks, peaks, flat, flat]) == set()


def test_names_are_unique_and_every_reading_is_known():
  names = [(way.clients, way.name) for way in ways.WAYS]
  assert len(set(names)) == len(names)
  assert all(set(way.read) <= causes.readings.READINGS.keys()
             for way in ways.WAYS)
  assert causes.readings.TITLES.keys() == causes.readings.READINGS.keys()


def test_both_cells_have_their_table():
  way = ways.WAYS[0]
  plain = 'every round'
  iid = causes.line(way, {plain: {
      '0.1': [50, 40, None], '0.2': [30, None, None]}}, {})
  apart = causes.line(
      way._replace(clients='non-IID', limit=1000),
      {plain: {'0.1': [300, 310, 305], '0.2': [290, 280, None]},
       'every 50': {'0.1': [400, 420, 410], '0.2': [None, None, 300]}}, {})
  assert apart['median'] == 290 and apart['best_rate'] == '0.2'
  assert causes.line(
      way, {plain: {'0.1': [None, 3, None]}}, {})['median'] is None
  lines = [json.loads(json.dumps(line)) for line in (iid, apart)]
  page = report.page({}, (), '', lines)
  name = way.name
  assert f'| {name} | 50 at 0.1 | 50 | > 160 |' in page
  assert (f'| non-IID | {name} | 290 | 290, 280, > 1000 | 0.2 | 0.1: 305 |'
          in page)
  assert ('| way | after every round | after every 50th |\n|---|--:|--:|\n'
          f'| {name} | 290 (280 to > 1000) | 410 (400 to 420) |') in page

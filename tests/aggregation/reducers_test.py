"""Reducers against NumPy, on messages block by block and merged."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim import aggregation
from fedjax_sim.aggregation.chain import nobody
from fedjax_sim.aggregation.grouped import grouped
from fedjax_sim.aggregation.secure import integer_sum
from fedjax_sim.core.types import Aggregate, Message
from tests.aggregation.parts import REDUCERS, padded_signs

PRESENT = [True, False, True, True, True, False]


def messages(present=PRESENT, weight_shape=(), seed=0):
  rng = np.random.default_rng(seed)
  count = len(present)
  slot = jax.tree.map(jnp.asarray, nobody(count)._replace(
      place=jnp.asarray(rng.permutation(count), jnp.int32),
      present=jnp.asarray(present)))
  normal = lambda *shape: jnp.asarray(
      rng.normal(size=(count, *weight_shape, *shape)), jnp.float32)
  return Message(
      {'a': normal(3), 'b': normal()},
      jnp.asarray(rng.uniform(1, 9, (count, *weight_shape)), jnp.float32),
      jnp.asarray(present), {'steps': jnp.arange(count, dtype=jnp.float32)},
      slot=slot)


def part_of(sent, index):
  return jax.tree.map(lambda x: x[index], sent)


def shapes(sent):
  return jax.eval_shape(lambda: part_of(sent, 0))


def accumulated(reducer, sent, width, num_slots=6):
  accumulator = reducer.init(shapes(sent), num_slots)
  for i in range(0, len(sent.present), width):
    accumulator = reducer.accumulate(
        accumulator, part_of(sent, slice(i, i + width)))
  return accumulator


def reduced(reducer, sent, width=2):
  """The aggregate."""
  state = reducer.initial(shapes(sent), 10, jax.random.key(0))
  return reducer.finalize(
      accumulated(reducer, sent, width), state, None, jax.random.key(1))[0]


def mean_by_weight(sent, here):
  return {name: np.average(
      x[here], axis=0, weights=np.asarray(sent.weight)[here])
          for name, x in sent.update.items()}


REFERENCES = {
    'weighted_mean': mean_by_weight,
    'momentum': mean_by_weight,  # In the first round.
    'fixed_mean': lambda sent, here: {
        name: x[here].sum(0) / 3 for name, x in sent.update.items()},
    'median': lambda sent, here: {
        name: np.median(x[here], axis=0) for name, x in sent.update.items()},
    'buffered': lambda sent, here: None,
}


@pytest.mark.parametrize('name', REFERENCES)
def test_it_is_what_numpy_says_whatever_the_blocks(name):
  sent, reducer = messages(), REDUCERS[name]()
  here = np.flatnonzero(PRESENT)
  want = REFERENCES[name](sent, here) or reduced(reducer, sent, 6).mean
  for width in (1, 2, 3):
    got = reduced(reducer, sent, width)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(
        a, b, rtol=1e-5, atol=1e-6), got.mean, want)
    np.testing.assert_allclose(got.weight, sent.weight[here].sum(), rtol=1e-6)
    assert got.count == 4 and got.sums['steps'] == 0 + 2 + 3 + 4


@pytest.mark.parametrize('name', ['weighted_mean', 'fixed_mean', 'median'])
@pytest.mark.parametrize('dtype, wide, tolerance', [
    ('bfloat16', 'float32', 1e-6), ('float16', 'float32', 1e-6),
    ('float64', 'float64', 1e-13)])
def test_sums_are_wide(name, dtype, wide, tolerance):
  with jax.enable_x64(dtype == 'float64'):
    sent = messages()
    sent = sent._replace(
        update=jax.tree.map(lambda x: x.astype(dtype), sent.update),
        weight=sent.weight.astype(jnp.result_type(float)))
    got = reduced(REDUCERS[name](), sent)
    exact = sent._replace(update={
        name: np.asarray(x, np.float64) for name, x in sent.update.items()})
    want = REFERENCES[name](exact, np.flatnonzero(PRESENT))
    for key in want:
      assert got.mean[key].dtype == wide
      np.testing.assert_allclose(got.mean[key], want[key], rtol=tolerance)


@pytest.mark.parametrize('name', REDUCERS)
def test_absent_slots_are_selected_away_not_multiplied(name):
  sent, reducer = messages(), REDUCERS[name]()
  spoil = lambda tree: jax.tree.map(
      lambda x: x.at[jnp.array([1, 5])].set(jnp.nan), tree)
  poisoned = sent._replace(
      update=spoil(sent.update), weight=spoil(sent.weight),
      sums=spoil(sent.sums))
  jax.tree.map(np.testing.assert_array_equal,
               reduced(reducer, poisoned), reduced(reducer, sent))


@pytest.mark.parametrize('name', REDUCERS)
def test_nobody_present_gives_zero(name):
  got = reduced(REDUCERS[name](), messages([False] * 6))
  np.testing.assert_array_equal(got.mean['a'], np.zeros(3))
  assert got.count == 0


@pytest.mark.parametrize('name', REDUCERS)
def test_merge_is_the_reduction_of_both(name):
  sent, reducer = messages(), REDUCERS[name]()
  both = reducer.merge(
      accumulated(reducer, part_of(sent, slice(0, 3)), 3),
      accumulated(reducer, part_of(sent, slice(3, 6)), 3))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), both,
               accumulated(reducer, sent, 6))


def test_weights_may_be_of_stacked_updates_or_of_leaves():
  stacked = messages(weight_shape=(2,))
  stacked = stacked._replace(weight=stacked.weight.at[:, 1].set(0))
  got = reduced(aggregation.weighted_mean(), stacked)
  here = np.flatnonzero(PRESENT)
  want = np.average(stacked.update['a'][here, 0], axis=0,
                    weights=stacked.weight[here, 0])
  np.testing.assert_allclose(got.mean['a'][0], want, rtol=1e-5)
  np.testing.assert_array_equal(got.mean['a'][1], np.zeros(3))

  sent = messages()
  by_leaf = {'a': jnp.abs(sent.update['a']), 'b': sent.weight}
  got = reduced(
      aggregation.weighted_mean(), sent._replace(weight=by_leaf))
  for name, weight in by_leaf.items():
    want = np.average(sent.update[name][here], axis=0, weights=weight[here])
    np.testing.assert_allclose(got.mean[name], want, rtol=1e-5)


@pytest.mark.parametrize('name', ['weighted_mean', 'median', 'fixed_mean'])
def test_groups_are_reduced_each_on_its_own(name):
  sent, choice = messages(), np.array([1, 0, 1, 2, 1, 2])
  with_groups = sent._replace(
      group=jnp.asarray(choice[:, None] == np.arange(4)))
  got = reduced(grouped(REDUCERS[name]()), with_groups)
  for k in range(4):
    alone = sent._replace(present=sent.present & jnp.asarray(choice == k))
    want = reduced(REDUCERS[name](), alone)
    jax.tree.map(lambda a, b, k=k: np.testing.assert_allclose(
        a[k], b, rtol=1e-6), got.mean, want.mean)
    np.testing.assert_allclose(got.weight[k], want.weight, rtol=1e-6)
  assert got.count == 4 and got.sums['steps'] == 9


def test_denominator_times_mean_is_the_sum():
  sent = messages()
  here = np.flatnonzero(PRESENT)
  fixed = reduced(aggregation.fixed_mean(7.0), sent)
  np.testing.assert_allclose(fixed.mean['a'] * fixed.denominator,
                             sent.update['a'][here].sum(0), rtol=1e-5)
  whole = sent._replace(update=jax.tree.map(
      lambda u: jnp.round(100 * u).astype(jnp.int32), sent.update))
  integers = reduced(integer_sum(), whole)
  np.testing.assert_array_equal(
      integers.mean['a'], whole.update['a'][here].sum(0))
  assert integers.denominator == integers.weight


def test_a_stage_sees_messages_in_the_order_of_the_cohort():
  seen = []

  def look(sent, state, broadcast, key):
    seen.append(sent)
    return Aggregate(sent.update, 0, 0, 0, {}), state, {}

  sent = messages()
  reduced(aggregation.buffered(aggregation.Stage('look', look)), sent)
  (ordered,) = seen
  for i, place in enumerate(sent.slot.place):
    want = sent.update['a'][i] if PRESENT[i] else np.zeros(3)
    np.testing.assert_array_equal(ordered.update['a'][place], want)
    assert ordered.present[place] == PRESENT[i]


@pytest.mark.parametrize('stages, message', [
    ((), 'needs stages'),
    ((1,), 'got 1'),
    ((aggregation.median,), 'function median itself'),
    ((aggregation.median(), aggregation.clip(1.0)), 'as its last stage only'),
    ((aggregation.coordinate_median(), aggregation.weighted_mean()),
     "'reducer' is after"),
    ((aggregation.downlink(aggregation.clip(1.0)), aggregation.median()),
     "'downlink clip' changes what the server sends"),
    ((aggregation.clip(1.0), aggregation.clip(1.0), aggregation.median()),
     'different names'),
    ((aggregation.adaptive_clip(), aggregation.median()),
     "'adaptive_clip' has state and has sums and has a part on the server"),
    ((padded_signs(), aggregation.median()), "'padded_signs' has a part on"),
    ((aggregation.clip(1.0),), "'clip' does not"),
    ((aggregation.transform('kept', client_init=lambda message: jnp.zeros(2)),
      aggregation.weighted_mean()), "'kept' has memory of clients")])
def test_bad_stages(stages, message):
  with pytest.raises(ValueError, match=message):
    reduced(aggregation.buffered(*stages), messages())


def test_the_median_of_clipped_updates():
  sent = messages()
  clip = aggregation.on('*', aggregation.chain(aggregation.clip(0.5)))
  got = reduced(aggregation.buffered(clip, aggregation.median()), sent)
  lengths = np.sqrt(np.square(sent.update['a']).sum(1)
                    + np.square(sent.update['b']))
  clipped = sent.update['a'] * np.minimum(1, 0.5 / lengths)[:, None]
  np.testing.assert_allclose(
      got.mean['a'], np.median(clipped[np.flatnonzero(PRESENT)], 0), rtol=1e-5)


@pytest.mark.parametrize('n', [0, -1.0, float('inf')])
def test_bad_n(n):
  with pytest.raises(ValueError, match='n must be positive'):
    aggregation.fixed_mean(n)

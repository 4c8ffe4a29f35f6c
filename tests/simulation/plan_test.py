import itertools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim.core import loops
from fedjax_sim.simulation import plan


def make(cohorts, sizes, lanes, num_blocks, **kwargs):
  return plan.plan_rounds(
      [np.array(c) for c in cohorts], kwargs.get('evaluate', []),
      np.array(sizes), np.r_[0, np.cumsum(sizes)], lanes=lanes,
      num_blocks=num_blocks,
      num_rounds=kwargs.get('num_rounds', len(cohorts)))


def of_devices(got, field):
  """A field of the slots of the first round that are present, by device."""
  slots = jax.tree.map(lambda x: x[0], got.slots)
  return [sorted(getattr(slots, field)[d][slots.present[d]])
          for d in range(len(slots.present))]


def test_every_client_once_largest_first():
  sizes = [5, 100, 30, 70, 1]
  got = make([[0, 1, 2, 3, 4], [4, 2]], sizes, lanes=2, num_blocks=3)
  flat = got.slots.client.reshape(2, -1)
  assert list(flat[0][:5]) == [1, 3, 2, 0, 4]
  assert list(flat[1][:2]) == [2, 4]
  np.testing.assert_array_equal(got.slots.present.reshape(2, -1).sum(1), [5, 2])
  assert got.slots.client.shape == (2, 1, 3, 2)


def test_rounds_beyond_are_empty_and_not_evaluated():
  got = make([[0, 1]], [1, 1], 2, 1, num_rounds=4, evaluate=[True])
  np.testing.assert_array_equal(got.slots.present.sum((1, 2, 3)), [2, 0, 0, 0])
  np.testing.assert_array_equal(got.evaluate, [True, False, False, False])


def test_states_lie_with_the_owner_of_their_client():
  owners = np.array([0, 0, 0, 1, 1, 1, 2])
  cohorts = [np.array([6, 1, 4, 3]), np.array([5, 0])]
  got = plan.plan_rounds(
      cohorts, [], np.ones(7),
      np.arange(8), lanes=2, num_blocks=1, num_rounds=2, devices=3,
      owners=owners)
  held = [[0, 1, 2], [3, 4, 5], [6]]
  assert got.slots.present.sum() == 6
  for r, d, block, lane in np.argwhere(got.slots.present):
    slot = r, d, block, lane
    assert held[d][got.slots.state_index[slot]] == got.slots.client[slot]
    # `place` is that in the cohort, whoever is dealt to whom.
    assert cohorts[r][got.slots.place[slot]] == got.slots.client[slot]
  assert not got.slots.state_index[~got.slots.present].any()
  got = make([[2, 0, 1]], [1, 1, 1], lanes=3, num_blocks=1)
  np.testing.assert_array_equal(got.slots.state_index, got.slots.client)


def test_too_small_a_plan():
  with pytest.raises(ValueError, match='cohort of 3 clients'):
    make([[0, 1, 2]], [1, 1, 1], lanes=2, num_blocks=1)


def test_occurrences_count_equals_before():
  cohort = np.array([3, 1, 3, 3, 0, 1])
  want = [np.sum(cohort[:i] == c) for i, c in enumerate(cohort)]
  np.testing.assert_array_equal(plan.count_occurrences(cohort), want)
  assert len(plan.count_occurrences(np.array([], np.int32))) == 0


@pytest.mark.parametrize('cohort,lanes,want', [(10, 10, 1), (10, 4, 3),
                                               (1, 8, 1), (9, 1, 9)])
def test_blocks_for(cohort, lanes, want):
  assert plan.blocks_for(cohort, lanes) == want


def test_evaluation_every_n_rounds_and_after_the_last():
  flags = [plan.evaluate_after(3, 7)(r) for r in range(7)]
  assert flags == [False, False, True, False, False, True, True]


@pytest.mark.parametrize('lanes', [1, 3, 7])
def test_padded_share_is_what_the_loop_computes(lanes):
  """Counts calls of the body, a lane each, on the real loop."""
  steps = np.array([7, 1, 4, 0, 12, 3, 3])
  got = make([range(7)], steps, lanes, plan.blocks_for(7, lanes))
  calls = []

  def body(t, carry):
    jax.debug.callback(lambda x: calls.append(np.size(x)), carry)
    return carry + 1

  for block, present in zip(
      got.slots.client[0, 0], got.slots.present[0, 0], strict=True):
    own = jnp.where(present, steps[block], 0)
    jax.vmap(lambda n: loops.fori_lanes(n, body, jnp.int32(0)))(own)
  jax.effects_barrier()
  want = 1 - steps.sum() / sum(calls)
  np.testing.assert_allclose(plan.padded_share(got, steps), [want])


def test_an_empty_round_has_no_padding():
  got = make([[0, 1]], [0, 0], 2, 1, num_rounds=2)
  np.testing.assert_array_equal(plan.padded_share(got, np.zeros(2, int)), 0)


def test_dealing_is_near_the_least_time_possible():
  """Graham (1969): at most 4/3 - 1/(3 D) times the optimum, by brute force."""
  rng = np.random.default_rng(0)
  for _ in range(30):
    work = -np.sort(-rng.integers(0, 20, 7))
    dealt = plan.deal(work, 3)
    got = max(work[dealt == d].sum() for d in range(3))
    least = min(
        max(sum(w for w, d in zip(work, of, strict=True) if d == device)
            for device in range(3))
        for of in itertools.product(range(3), repeat=7))
    assert least <= got <= (4 / 3 - 1 / 9) * least


def test_clients_without_work_are_spread_too():
  np.testing.assert_array_equal(
      np.bincount(plan.deal(np.zeros(9, int), 3)), [3, 3, 3])


def test_devices_share_a_cohort_or_keep_their_own_clients():
  sizes, cohort = [5, 100, 30, 70, 1, 9], [0, 1, 3, 3, 5]
  got = plan.plan_rounds([np.array(cohort)], [], np.array(sizes),
                         np.r_[0, np.cumsum(sizes)], lanes=2, num_blocks=3,
                         num_rounds=1, devices=2)
  own = of_devices(got, 'client')
  assert own == [[0, 1, 5], [3, 3]]
  np.testing.assert_allclose(
      plan.imbalance(got, np.array(sizes)), [140 / 127 - 1])
  # Empty blocks come last.
  np.testing.assert_array_equal(got.slots.present[0, :, :, 0],
                                [[True, True, False], [True, False, False]])
  owners = np.array([0, 0, 0, 1, 1, 1])
  got = plan.plan_rounds([np.array(cohort)], [], np.array(sizes),
                         np.r_[0, np.cumsum(sizes)], lanes=2, num_blocks=3,
                         num_rounds=1, devices=2, owners=owners)
  own = of_devices(got, 'client')
  assert own == [[0, 1], [3, 3, 5]]
  assert of_devices(got, 'occurrence')[1] == [0, 0, 1]


def test_no_device_is_dealt_more_than_it_has_slots_for():
  work = np.array([1000] + [1] * 40)
  assert np.bincount(plan.deal(work, 3)).max() == 20
  # Twice its share is 28, which doesn't bind; 14 is the share itself.
  np.testing.assert_array_equal(
      plan.deal(work, 3, plan.slots_for(41, 3, False)), plan.deal(work, 3))
  assert np.bincount(plan.deal(work, 3, 14)).tolist() == [13, 14, 14]
  assert plan.slots_for(41, 3, False) == 28
  assert plan.slots_for(41, 3, True) == plan.slots_for(41, 1, False) == 41

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fedjax_sim.clients import batches
from fedjax_sim.core.types import ClientData


def visit(size, *, batch_size, num_steps=None, first_step=0, shuffle=True,
          max_size=None, offset=100, ragged=True):
  """Ids seen at each step: a list of lists, of the real rows alone."""
  max_size = max_size or max(size, 1)
  examples = {'id': jnp.arange(1000)}
  data = ClientData(examples, jnp.int32(offset), jnp.int32(size), max_size,
                    ragged)
  width = min(batch_size or max_size, max_size)
  limit = 64
  def step(carry, batch):
    ids, masks, steps, i = carry
    return (ids.at[i].set(batch.examples['id']), masks.at[i].set(batch.mask),
            steps.at[i].set(batch.step), i + 1)
  start = (jnp.full((limit, width), -1), jnp.zeros((limit, width), bool),
           jnp.full(limit, -1), 0)
  ids, masks, steps, count = jax.jit(lambda: batches.for_each_batch(
      data, step, start, key=jax.random.key(5), batch_size=batch_size,
      num_steps=num_steps, first_step=first_step, shuffle=shuffle))()
  rows = [list(np.asarray(ids[i])[np.asarray(masks[i])]) for i in range(count)]
  return rows, list(np.asarray(steps[:count])), np.asarray(ids[:count])


def test_an_epoch_is_every_example_once_and_the_last_batch_partial():
  rows, steps, all_ids = visit(23, batch_size=10, max_size=60)
  assert [len(r) for r in rows] == [10, 10, 3] and steps == [0, 1, 2]
  assert sorted(sum(rows, [])) == list(range(100, 123))
  assert sum(rows, []) != list(range(100, 123))
  # Padding repeats the client's own first example, nobody else's.
  assert set(all_ids[2][3:]) == {100}


def test_epochs_have_orders_of_their_own():
  rows, _, _ = visit(12, batch_size=4, num_steps=6)
  first, second = sum(rows[:3], []), sum(rows[3:], [])
  assert sorted(first) == sorted(second) == list(range(100, 112))
  assert first != second


def test_order_depends_on_no_padding():
  want = visit(23, batch_size=10, max_size=23)[0]
  assert visit(23, batch_size=10, max_size=400)[0] == want


@pytest.mark.parametrize('cut', [1, 2, 3, 4, 5])
def test_work_goes_on_where_it_ended(cut):
  whole = visit(23, batch_size=10, num_steps=7)[0]
  head = visit(23, batch_size=10, num_steps=cut)[0]
  tail, steps, _ = visit(23, batch_size=10, num_steps=7 - cut, first_step=cut)
  assert head + tail == whole
  assert steps == list(range(cut, 7))


def test_whole_local_data_is_one_step():
  rows, _, _ = visit(23, batch_size=None, num_steps=2, max_size=60)
  assert rows == [list(range(100, 123))] * 2


@pytest.mark.parametrize('batch_size', [None, 10, 100])
def test_a_client_without_examples_does_nothing(batch_size):
  assert visit(0, batch_size=batch_size, num_steps=5, max_size=7)[0] == []


def test_stored_order():
  rows, _, _ = visit(7, batch_size=3, shuffle=False)
  assert rows == [[100, 101, 102], [103, 104, 105], [106]]


def test_batch_size_below_one():
  with pytest.raises(ValueError, match='batch_size must be'):
    visit(5, batch_size=0)


@pytest.mark.parametrize('batch_size,want', [(10, [0, 1, 1, 2, 60]),
                                             (None, [0, 1, 1, 1, 1])])
def test_steps_per_epoch(batch_size, want):
  sizes = jnp.array([0, 1, 10, 11, 600])
  np.testing.assert_array_equal(
      batches.steps_per_epoch(sizes, batch_size), want)


@pytest.mark.parametrize('lanes', [1, 3])
def test_a_part_of_a_clients_examples_is_only_that(lanes):
  # As in a round where all clients have 8 examples: client c has 8c to 8c + 7,
  # and trains on the first 5 - c of them, in batches of 4.
  def seen(client):
    size = jnp.int32(8) + 0 * client
    whole = ClientData(
        {'id': jnp.arange(100)}, 8 * client, size, 8, False, size)
    part = whole._replace(size=5 - client)
    count = lambda total, batch: total + jnp.sum(
        jnp.where(batch.mask, batch.examples['id'], 0))
    return [batches.for_each_batch(
        data, count, jnp.int32(0), key=jax.random.key(0), batch_size=4)
        for data in (whole, part)]

  whole, part = jax.vmap(seen)(jnp.arange(lanes))
  for c in range(lanes):
    assert whole[c] == sum(range(8 * c, 8 * c + 8))
    assert part[c] == sum(range(8 * c, 8 * c + 5 - c))
